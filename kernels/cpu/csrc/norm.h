// Root-mean-square norm of one row, plain or after adding to the residual stream.
#pragma once

#include <cmath>

#include "kernels.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

template <typename T>
float sum_of_squares(const T* x, int64_t size) {
  Vec total{};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Vec v = load(x + i);
    total = fmadd(v, v, total);
  }
  if (i < size) {
    const Vec v = load_some(x + i, size - i);
    total = fmadd(v, v, total);
  }
  return sum(total);
}

template <typename R, typename T>
void add(R* residual, const T* x, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(residual + i, load(residual + i) + load(x + i));
  if (i < size) store_some(residual + i, load_some(residual + i, size - i) + load_some(x + i, size - i), size - i);
}

template <typename T, typename X>
void round_row(T* out, const X* x, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(out + i, load(x + i));
  if (i < size) store_some(out + i, load_some(x + i, size - i), size - i);
}

template <typename T, typename X, typename W>
void norm_row(T* out, const X* x, const W* weight, int64_t size, float eps) {
  if (!weight) return round_row(out, x, size);
  const Vec scale = splat(1.0f / std::sqrt(sum_of_squares(x, size) / static_cast<float>(size) + eps));
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(out + i, load(x + i) * scale * load(weight + i));
  if (i < size) store_some(out + i, load_some(x + i, size - i) * scale * load_some(weight + i, size - i), size - i);
}

template <typename T, typename W, typename R>
void norm_row_of(const NormArgs& a, int64_t row) {
  const int64_t outer = row / a.inner, inner = row % a.inner;
  const T* x = static_cast<const T*>(a.x.data) + outer * a.x.stride + inner * a.x_inner_stride;
  T* out = static_cast<T*>(a.out.data) + row * a.size;
  const W* weight = static_cast<const W*>(a.weight);
  if (!a.residual.data) return norm_row(out, x, weight, a.size, a.eps);
  R* residual = static_cast<R*>(a.residual.data) + outer * a.residual.stride;
  if (a.x.data) add(residual, x, a.size);
  norm_row(out, residual, weight, a.size, a.eps);
}

// Row `row` of outer * inner; T is the type of x and out.
template <typename T>
void norm_row_at(const NormArgs& a, int64_t row) {
  if (a.weight_dtype == a.dtype) {
    a.wide ? norm_row_of<T, T, float>(a, row) : norm_row_of<T, T, T>(a, row);
  } else {
    a.wide ? norm_row_of<T, float, float>(a, row) : norm_row_of<T, float, T>(a, row);
  }
}

}  // namespace octavo::OCTAVO_ISA
