// Root-mean-square norm, plain or after adding to the residual stream.
#include <cmath>

#include "table.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {
namespace {

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
void norm_rows(const NormArgs& a) {
  parallel_rows(a.outer * a.inner, a.size, [&](int64_t row) {
    const int64_t outer = row / a.inner, inner = row % a.inner;
    const T* x = static_cast<const T*>(a.x.data) + outer * a.x.stride + inner * a.x_inner_stride;
    T* out = static_cast<T*>(a.out.data) + row * a.size;
    const W* weight = static_cast<const W*>(a.weight);
    if (!a.residual.data) return norm_row(out, x, weight, a.size, a.eps);
    R* residual = static_cast<R*>(a.residual.data) + outer * a.residual.stride;
    if (a.x.data) add(residual, x, a.size);
    norm_row(out, residual, weight, a.size, a.eps);
  });
}

template <typename T, typename W>
void norm_any_residual(const NormArgs& a) {
  if (a.wide) {
    norm_rows<T, W, float>(a);
  } else {
    norm_rows<T, W, T>(a);
  }
}

}  // namespace

void rms_norm(const NormArgs& args) {
  OCTAVO_DISPATCH(args.dtype, T, if (args.weight_dtype == args.dtype) norm_any_residual<T, T>(args);
                  else norm_any_residual<T, float>(args));
}

}  // namespace octavo::OCTAVO_ISA
