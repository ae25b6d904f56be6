// Product of rows with one panel of 32 packed columns, in plain fused multiply-adds: any element type, any processor.
#pragma once

#include "linear/kernel.h"
#include "linear/source.h"

namespace octavo::OCTAVO_ISA {

constexpr int kPanelVecs = kPanel / kLanes;

#if defined(__AVX512F__)
constexpr int kDenseRows = 8;
#else
constexpr int kDenseRows = 12 / kPanelVecs > 0 ? 12 / kPanelVecs : 1;
#endif

// Columns of one k (float, f16) or of a pair of them (bf16).
template <typename T>
struct DensePanel {
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
  template <int N>
  OCTAVO_INLINE static void multiply(const float* x, int64_t stride, const bf16* weights, Vec total[N][kPanelVecs]) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanelVecs; ++j) {
      constexpr int kVecsPerHalf = kHalf / kLanes;
      IVec pair;
      std::memcpy(&pair, weights + j / kVecsPerHalf * kHalfBlock + j % kVecsPerHalf * kLanes * 2, sizeof pair);
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
// A stretch of k: kernels start a sum at 0 and go on with it elsewhere.
struct Stretch {
  int64_t from, to;
};

// N rows of x [N, depth] in float32 times a panel [depth, 32], for a stretch of k -> out [N, 32].
template <typename T, int N, typename Blocks>
void dense_panel(const float* x, int64_t depth, Blocks& blocks, Stretch stretch, float* out) {
  Vec total[N][kPanelVecs] = {};
  if (stretch.from > 0) {
#pragma GCC unroll 12
    for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
      for (int j = 0; j < kPanelVecs; ++j) total[n][j] = load(out + n * kPanel + j * kLanes);
    }
  }
  for (int64_t block = stretch.from; block < stretch.to; block += kBlock) {
    const T* weights = blocks.at(block);
    for (int64_t k = 0; k < kBlock; k += kInterleaved<T>) {
      DensePanel<T>::template multiply<N>(x + block + k, depth, weights + step_offset<T>(k), total);
    }
    blocks.work();
  }
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanelVecs; ++j) store(out + n * kPanel + j * kLanes, total[n][j]);
  }
}

// Calls F<N>::run(args...) with the constant N equal to n, 1 <= n <= Max.
template <int Max, template <int> class F, typename... Args>
OCTAVO_INLINE void with_constant(int n, Args&&... args) {
  if constexpr (Max > 1) {
    if (n < Max) return with_constant<Max - 1, F>(n, args...);
  }
  F<Max>::run(args...);
}

// Calls F<rows>::run(x, blocks, ...). Beside a group that is not full nothing else is done: then each number of rows needs one
// kernel, not one for every epilogue, which halves the time the compiler takes.
template <int kRows, template <int> class F, typename X, typename Blocks, typename... Args>
OCTAVO_INLINE void run_group(int rows, const X* x, Blocks& blocks, Args... args) {
  if constexpr (Blocks::kBusy) {
    if (rows == kRows) return F<kRows>::run(x, blocks, args...);
    auto plain = blocks.plain();
    with_constant<kRows, F>(rows, x, plain, args...);
  } else {
    with_constant<kRows, F>(rows, x, blocks, args...);
  }
}

// A kernel of products is a struct like this one. x comes to it in groups of kRows rows, weights in panels.
template <typename T>
struct DenseKernel : KernelDefaults {
  static constexpr int kRows = kDenseRows;

  // Bytes of a group of x as `prepare` writes it, and of a panel.
  static constexpr int64_t kDepth = kBlock;  // k between two looks at the blocks
  static constexpr int64_t group_bytes(int64_t depth) { return kRows * depth * static_cast<int64_t>(sizeof(float)); }
  static constexpr int64_t panel_bytes(int64_t depth) { return kPanel * depth * static_cast<int64_t>(sizeof(T)); }

  // Write row `row` of x, k values, into its group, with zeros up to depth.
  template <typename X>
  static void prepare(char* group, int64_t row, const X* x, int64_t k, int64_t depth) {
    float* to = reinterpret_cast<float*>(group) + row * depth;
    int64_t i = 0;
    for (; i + kLanes <= k; i += kLanes) store(to + i, load(x + i));
    for (; i < k; ++i) to[i] = to_float(x[i]);
    for (; i < depth; ++i) to[i] = 0.0f;
  }

  template <int N>
  struct Sized {
    template <typename Blocks>
    static void run(const float* x, Blocks& blocks, int64_t depth, Stretch stretch, float* out) {
      dense_panel<T, N>(x, depth, blocks, stretch, out);
    }
  };

  // The first `rows` rows of a group times a panel, for a stretch of k -> out [rows, 32], which has room for kRows.
  template <typename Blocks>
  static void run(int rows, const char* x, Blocks& blocks, int64_t depth, Stretch stretch, float* out) {
    run_group<kRows, Sized>(rows, reinterpret_cast<const float*>(x), blocks, depth, stretch, out);
  }
};

}  // namespace octavo::OCTAVO_ISA
