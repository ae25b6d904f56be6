// Product of rows with one panel of 32 columns, both in 8 bits, by pairwise products of 16 bits: any processor.
//
// Sums are integers and exact, and what scales them is the same everywhere: all kernels of this form give the same bits.
#pragma once

#include "linear/int8_layout.h"
#include "linear/dense.h"
#include "linear/epilogue.h"

namespace octavo::OCTAVO_ISA {

// A group of x: the rows' scales, then their integers in the kernel's own order.
constexpr int64_t kGroupHeadBytes = 64;

OCTAVO_INLINE float* group_scales(char* group) { return reinterpret_cast<float*>(group); }
OCTAVO_INLINE const float* group_scales(const char* group) { return reinterpret_cast<const float*>(group); }

// Sums [rows, 32] -> out, times the scales of row and column.
OCTAVO_INLINE void scale_sums(int rows, const int32_t* sums, const float* scales, const PanelHead& head, float* out) {
  for (int row = 0; row < rows; ++row) {
    for (int c = 0; c < kPanel; c += kLanes) {
      store(out + row * kPanel + c, scaled(sums + row * kPanel + c, scales[row], head.scales + c));
    }
  }
}

typedef int16_t ShortVec __attribute__((vector_size(kLanes * 4)));

// c + a product of 16 bits for each half of a lane
OCTAVO_INLINE IVec dot_pairs(ShortVec a, ShortVec b, IVec c) {
#if defined(__AVX512BW__)
  return c + reinterpret_cast<IVec>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return c + reinterpret_cast<IVec>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  return c + reinterpret_cast<IVec>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  const IVec x = reinterpret_cast<IVec>(a), y = reinterpret_cast<IVec>(b);
  return c + ((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16);
#endif
}

// Two successive values of x in every lane.
OCTAVO_INLINE ShortVec splat_pair(const int16_t* pair) {
  int32_t both;
  std::memcpy(&both, pair, sizeof both);
  return reinterpret_cast<ShortVec>(IVec{} + both);
}

// N rows of x, each quad in the order 0, 2, 1, 3, times a panel's values -> sums [N, 32].
template <int N>
void pair_panel(const int16_t* x, const int8_t* weights, int64_t depth, int32_t* sums) {
  constexpr int kVecsPerHalf = kHalf / kLanes, kVecBytes = kLanes * kQuad;
  IVec total[N][kPanelVecs] = {};
  for (int64_t k = 0; k < depth; k += kQuad) {
    const int8_t* here = weights + k / kByteBlock * 2 * kByteHalfBlock + k % kByteBlock * kHalf;
    __builtin_prefetch(here + kPrefetchBytes);
    __builtin_prefetch(here + kByteHalfBlock + kPrefetchBytes);
#pragma GCC unroll 8
    for (int j = 0; j < kPanelVecs; ++j) {
      ShortVec pairs;
      std::memcpy(&pairs, here + j / kVecsPerHalf * kByteHalfBlock + j % kVecsPerHalf * kVecBytes, sizeof pairs);
      const ShortVec even = (pairs << 8) >> 8, odd = pairs >> 8;
#pragma GCC unroll 12
      for (int n = 0; n < N; ++n) {
        total[n][j] = dot_pairs(splat_pair(x + n * depth + k), even, total[n][j]);
        total[n][j] = dot_pairs(splat_pair(x + n * depth + k + 2), odd, total[n][j]);
      }
    }
  }
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanelVecs; ++j) std::memcpy(sums + n * kPanel + j * kLanes, &total[n][j], sizeof(IVec));
  }
}

struct PairKernel : KernelDefaults {
  static constexpr int kRows = kDenseRows;
  static constexpr int64_t group_bytes(int64_t depth) { return kGroupHeadBytes + kRows * byte_depth(depth) * 2; }
  static constexpr int64_t panel_bytes(int64_t depth) { return byte_panel_bytes(depth); }

  template <typename X>
  static void prepare(char* group, int64_t row, const X* x, int64_t k, int64_t depth) {
    constexpr int kOrder[kQuad] = {0, 2, 1, 3};
    int16_t* to = reinterpret_cast<int16_t*>(group + kGroupHeadBytes) + row * byte_depth(depth);
    group_scales(group)[row] = quantize(x, k, [&](int64_t i, const ByteBlock& values) {
      for (int j = 0; j < kByteBlock; ++j) to[i + j / kQuad * kQuad + kOrder[j % kQuad]] = values[j];
    });
  }

  template <int N>
  struct Sized {
    static void run(const int16_t* x, const int8_t* weights, int64_t depth, int32_t* sums) {
      pair_panel<N>(x, weights, depth, sums);
    }
  };

  static void run(int rows, const char* x, const char* panel, int64_t depth, bool, float* out) {
    alignas(64) int32_t sums[kRows * kPanel];
    const auto* head = reinterpret_cast<const PanelHead*>(panel);
    with_constant<kRows, Sized>(rows, reinterpret_cast<const int16_t*>(x + kGroupHeadBytes),
                                reinterpret_cast<const int8_t*>(head + 1), byte_depth(depth), &sums[0]);
    scale_sums(rows, sums, group_scales(x), *head, out);
  }
};

}  // namespace octavo::OCTAVO_ISA
