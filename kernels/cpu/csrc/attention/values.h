// Weighted sums of values, which stay in registers for all the keys of a tile.
#pragma once

#include "attention/chunk.h"
#include "attention/keys.h"

namespace octavo::OCTAVO_ISA {

#if defined(__AVX512F__)
constexpr int kValueRows = 4, kValueChunks = 4;  // 16 accumulators
#else
constexpr int kValueRows = 3, kValueChunks = kLanes == 8 ? 2 : 1;  // 12 accumulators
#endif

// Adds N rows of weights [N, kTileKeys], keys first .. last - 1, times M chunks of the values from `column` on to rows of acc,
// which are scaled first. Lines of `ahead`, if there is one, are asked for beside those used.
template <int N, int M, typename C>
void add_values(const float* weights, const C* const* value, const C* const* ahead, int64_t column, const float* scale, float* acc,
                int64_t width, int first, int last) {
  constexpr int kVecs = M * kChunkVecs;
  Vec total[N][kVecs];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int m = 0; m < kVecs; ++m) total[n][m] = load(acc + n * width + m * kLanes) * splat(scale[n]);
  }
  for (int key = first; key < last; ++key) {
    if (ahead) prefetch_numbers(ahead[key] + column, M * kChunk);
    Vec x[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) x[n] = splat(weights[n * kTileKeys + key]);
#pragma GCC unroll 8
    for (int m = 0; m < kVecs; ++m) {
      const Vec y = load(value[key] + column + m * kLanes);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) total[n][m] = fmadd(x[n], y, total[n][m]);
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int m = 0; m < kVecs; ++m) store(acc + n * width + m * kLanes, total[n][m]);
  }
}

template <int N, typename C>
void add_value_rows(const float* weights, const C* const* value, const C* const* ahead, const float* scale, float* acc, int64_t width,
                    int first, int last) {
  constexpr int kMost = N == 1 ? 2 * kValueChunks : kValueChunks;
  int64_t column = 0;
  for (; column + kMost * kChunk <= width; column += kMost * kChunk) {
    add_values<N, kMost>(weights, value, ahead, column, scale, acc + column, width, first, last);
  }
  for (; column < width; column += kChunk) add_values<N, 1>(weights, value, ahead, column, scale, acc + column, width, first, last);
}

}  // namespace octavo::OCTAVO_ISA
