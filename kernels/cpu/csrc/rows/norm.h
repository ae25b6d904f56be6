// Root-mean-square norm and layer norm of one row, plain or after adding to the residual stream.
#pragma once

#include <cmath>

#include "base/kernels.h"
#include "base/simd.h"

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

template <typename T>
float sum_of(const T* x, int64_t size) {
  Vec total{};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) total += load(x + i);
  if (i < size) total += load_some(x + i, size - i);
  return sum(total);
}

// Sum of (x - mean)^2.
template <typename T>
float sum_of_deviations(const T* x, float mean, int64_t size) {
  Vec total{};
  const Vec centre = splat(mean);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Vec v = load(x + i) - centre;
    total = fmadd(v, v, total);
  }
  float rest = 0.0f;
  for (; i < size; ++i) rest += (to_float(x[i]) - mean) * (to_float(x[i]) - mean);
  return sum(total) + rest;
}

template <typename R, typename T>
void add_to(R* residual, const T* x, int64_t size) {
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

// Layer norm (Ba et al. 2016).
template <typename T, typename X, typename W>
void layer_norm_row(T* out, const X* x, const W* weight, const W* bias, int64_t size, float eps) {
  const float mean = sum_of(x, size) / static_cast<float>(size);
  const Vec scale = splat(1.0f / std::sqrt(sum_of_deviations(x, mean, size) / static_cast<float>(size) + eps));
  const Vec centre = splat(mean);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Vec normed = (load(x + i) - centre) * scale * load(weight + i);
    store(out + i, bias ? normed + load(bias + i) : normed);
  }
  if (i < size) {
    const Vec normed = (load_some(x + i, size - i) - centre) * scale * load_some(weight + i, size - i);
    store_some(out + i, bias ? normed + load_some(bias + i, size - i) : normed, size - i);
  }
}

template <typename T, typename X, typename W>
void rms_norm_row(T* out, const X* x, const W* weight, int64_t size, float eps) {
  const Vec scale = splat(1.0f / std::sqrt(sum_of_squares(x, size) / static_cast<float>(size) + eps));
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(out + i, load(x + i) * scale * load(weight + i));
  if (i < size) store_some(out + i, load_some(x + i, size - i) * scale * load_some(weight + i, size - i), size - i);
}

template <typename T, typename X, typename W>
void norm_row(T* out, const X* x, const W* weight, const NormArgs& a) {
  if (!weight) return round_row(out, x, a.size);
  if (a.centred) return layer_norm_row(out, x, weight, static_cast<const W*>(a.bias), a.size, a.eps);
  rms_norm_row(out, x, weight, a.size, a.eps);
}

template <typename T, typename W, typename R>
void norm_row_of(const NormArgs& a, int64_t row) {
  const int64_t outer = row / a.inner, inner = row % a.inner;
  const T* x = static_cast<const T*>(a.x.data) + outer * a.x.stride + inner * a.x_inner_stride;
  T* out = static_cast<T*>(a.out.data) + row * a.size;
  const W* weight = static_cast<const W*>(a.weight);
  if (!a.residual.data) return norm_row(out, x, weight, a);
  R* residual = static_cast<R*>(a.residual.data) + outer * a.residual.stride;
  if (a.x.data) add_to(residual, x, a.size);
  norm_row(out, residual, weight, a);
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
