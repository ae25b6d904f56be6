// Product of rows with one panel of 32 packed columns, in plain fused multiply-adds: any element type, any processor.
#pragma once

#include "simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int kPanel = 32;
constexpr int kPanelVecs = kPanel / kLanes;

#if defined(__AVX512F__)
constexpr int kDenseRows = 12;
#else
constexpr int kDenseRows = 12 / kPanelVecs > 0 ? 12 / kPanelVecs : 1;
#endif

// Columns of one k (float, f16) or of a pair of them (bf16).
template <typename T>
struct DensePanel {
  static constexpr int64_t kStep = 1;
  template <int N>
  OCTAVO_INLINE static void multiply(const float* x, int64_t stride, const T* weights, Vec total[N][kPanelVecs]) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanelVecs; ++j) {
      const Vec w = load(weights + j * kLanes);
#pragma GCC unroll 12
      for (int n = 0; n < N; ++n) total[n][j] = fmadd(splat(x[n * stride]), w, total[n][j]);
    }
  }
};

template <>
struct DensePanel<bf16> {
  static constexpr int64_t kStep = 2;
  template <int N>
  OCTAVO_INLINE static void multiply(const float* x, int64_t stride, const bf16* weights, Vec total[N][kPanelVecs]) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanelVecs; ++j) {
      IVec pair;
      std::memcpy(&pair, weights + j * kLanes * 2, sizeof pair);
      const Vec even = as_float(pair << 16), odd = as_float(pair & static_cast<int32_t>(0xffff0000u));
#pragma GCC unroll 12
      for (int n = 0; n < N; ++n) {
        total[n][j] = fmadd(splat(x[n * stride]), even, total[n][j]);
        total[n][j] = fmadd(splat(x[n * stride + 1]), odd, total[n][j]);
      }
    }
  }
};

// Every loop over accumulators is unrolled: an index known only at run time would keep them all in memory.
//
// N rows of x [N, depth] in float32 times a panel [depth, 32] -> out [N, 32].
template <typename T, int N>
void dense_panel(const float* x, int64_t stride, const T* weights, int64_t depth, float* out) {
  Vec total[N][kPanelVecs] = {};
  for (int64_t k = 0; k < depth; k += DensePanel<T>::kStep) {
    DensePanel<T>::template multiply<N>(x + k, stride, weights + k * kPanel, total);
    __builtin_prefetch(weights + k * kPanel + 4096 / sizeof(T));
  }
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanelVecs; ++j) store(out + n * kPanel + j * kLanes, total[n][j]);
  }
}

// Calls F<N>::run(args...) with the constant N equal to n, 1 <= n <= Max.
template <int Max, template <int> class F, typename... Args>
OCTAVO_INLINE void with_constant(int n, const Args&... args) {
  if constexpr (Max > 1) {
    if (n < Max) return with_constant<Max - 1, F>(n, args...);
  }
  F<Max>::run(args...);
}

template <typename T>
struct DenseKernel {
  using Input = float;
  static constexpr int kRows = kDenseRows;

  template <int N>
  struct Sized {
    static void run(const float* x, int64_t stride, const T* weights, int64_t depth, float* out) {
      dense_panel<T, N>(x, stride, weights, depth, out);
    }
  };

  static void begin() {}
  static void end() {}
  static void run(int rows, const float* x, int64_t stride, const T* weights, int64_t depth, float* out) {
    with_constant<kRows, Sized>(rows, x, stride, weights, depth, out);
  }
};

}  // namespace octavo::OCTAVO_ISA
