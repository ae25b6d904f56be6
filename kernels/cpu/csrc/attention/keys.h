// Scores of some rows of queries and the keys of a tile.
//
// A processor with vectors of 4 or 8 floats keeps numbers of the head in their lanes: keys are used as they lie in the cache,
// each loaded once for three rows, and four keys' sums over lanes are made together. With 16 lanes those sums would cost as
// much as the products, so that there keys stand in the lanes, which takes a transposed copy of them.
#pragma once

#include "attention/chunk.h"
#include "attention/plan.h"
#include "base/transpose.h"

namespace octavo::OCTAVO_ISA {

// In the loops below every index of an accumulator is unrolled; one known only at run time would keep them all in memory.

#if defined(__AVX512F__)

constexpr bool kKeysInLanes = true;
constexpr int kTileKeys = 32, kTileVecs = kTileKeys / kLanes;  // keys whose scores are turned into weights together
constexpr int kBlockRows = 8;                                  // rows whose accumulators fit the registers

// Sizes of blocks, and how many of the rows that are left go in the next one.
#define OCTAVO_ROWS(body) body(8) body(4) body(3) body(2) body(1)
inline int rows_of_block(int64_t left) { return left >= 8 ? 8 : left >= 4 ? 4 : static_cast<int>(left); }

// Scores of N rows: q [N, D] times keys [D, kTileKeys] -> scores [N, kTileKeys].
template <int N>
void score_rows(const float* q, int64_t q_stride, const float* keys, float* scores, int64_t head_dim) {
  Vec total[N][kTileVecs] = {};
  for (int64_t d = 0; d < head_dim; ++d) {
    Vec key[kTileVecs];
#pragma GCC unroll 8
    for (int j = 0; j < kTileVecs; ++j) key[j] = load(keys + d * kTileKeys + j * kLanes);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Vec x = splat(q[n * q_stride + d]);
#pragma GCC unroll 8
      for (int j = 0; j < kTileVecs; ++j) total[n][j] = fmadd(x, key[j], total[n][j]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int j = 0; j < kTileVecs; ++j) store(scores + n * kTileKeys + j * kLanes, total[n][j]);
  }
}

// kLanes keys -> columns of keys [D, kTileKeys].
template <typename C>
void transpose_keys(const C* const* key, float* keys, int64_t head_dim) {
  int64_t d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) {
    Vec rows[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = load(key[i] + d);
    transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) store(keys + (d + i) * kTileKeys, rows[i]);
  }
  for (; d < head_dim; ++d) {
    for (int i = 0; i < kLanes; ++i) keys[d * kTileKeys + i] = to_float(key[i][d]);
  }
}

// bf16 goes in pairs: they are exchanged as one, then told apart, which halves the loads and exchanges.
inline void transpose_keys(const bf16* const* key, float* keys, int64_t head_dim) {
  int64_t d = 0;
  for (; d + 2 * kLanes <= head_dim; d += 2 * kLanes) {
    Vec rows[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = load(reinterpret_cast<const float*>(key[i] + d));
    transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      const IVec pair = as_int(rows[i]);
      store(keys + (d + 2 * i) * kTileKeys, as_float(pair << 16));
      store(keys + (d + 2 * i + 1) * kTileKeys, as_float(pair & static_cast<int32_t>(0xffff0000u)));
    }
  }
  for (; d < head_dim; ++d) {
    for (int i = 0; i < kLanes; ++i) keys[d * kTileKeys + i] = to_float(key[i][d]);
  }
}

// A tile's keys from .. to - 1 -> columns; `key` names some key for the others too.
template <typename C>
void copy_keys(const C* const* key, float* keys, int64_t head_dim, int, int) {
  for (int i = 0; i < kTileKeys; i += kLanes) transpose_keys(key + i, keys + i, head_dim);
}

// Scores of N rows and a tile's keys, of which those from .. to - 1 matter.
template <int N, typename C>
void score_block(const float* q, int64_t width, const float* columns, const C* const*, const C* const*, float* scores,
                 int64_t head_dim, int, int) {
  score_rows<N>(q, width, columns, scores, head_dim);
}

#else

constexpr bool kKeysInLanes = false;
constexpr int kTileKeys = 64;
constexpr int kBlockRows = 3;
constexpr int kBlockKeys = 4;  // keys whose sums over lanes are made together

// Sizes of blocks, and how many of the rows that are left go in the next one.
#define OCTAVO_ROWS(body) body(3) body(2) body(1)
inline int rows_of_block(int64_t left) { return left == 4 ? 2 : left >= 3 ? 3 : static_cast<int>(left); }

// The sums over the lanes of four vectors -> 4 floats.
OCTAVO_INLINE void store_sums(float* to, Vec a, Vec b, Vec c, Vec d) {
#if defined(__AVX2__)
  const Vec ab = _mm256_blend_ps(a, b, 0xcc) + _mm256_shuffle_ps(a, b, 0x4e);  // two sums of two of each, in either half
  const Vec cd = _mm256_blend_ps(c, d, 0xcc) + _mm256_shuffle_ps(c, d, 0x4e);
  const Vec all = _mm256_shuffle_ps(ab, cd, 0x88) + _mm256_shuffle_ps(ab, cd, 0xdd);
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
#else
  Vec rows[4] = {a, b, c, d};
  transpose(rows);
  store(to, (rows[0] + rows[2]) + (rows[1] + rows[3]));
#endif
}

// Scores of N rows of queries, in whole chunks, and four keys -> scores [N, kTileKeys].
template <int N, typename C>
OCTAVO_INLINE void score_keys(const float* q, int64_t q_stride, const C* const* key, float* scores, int64_t numbers) {
  Vec total[N][kBlockKeys];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
    for (int k = 0; k < kBlockKeys; ++k) total[n][k] = Vec{};
  }
  const C *key0 = key[0], *key1 = key[1], *key2 = key[2], *key3 = key[3];
  for (int64_t d = 0; d < numbers; d += kChunk) {
#pragma GCC unroll 4
    for (int part = 0; part < kChunkVecs; ++part) {
      Vec x[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) x[n] = load(q + n * q_stride + d + part * kLanes);
#pragma GCC unroll 4
      for (int k = 0; k < kBlockKeys; ++k) {
        const Vec y = load((k == 0 ? key0 : k == 1 ? key1 : k == 2 ? key2 : key3) + d + part * kLanes);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) total[n][k] = fmadd(x[n], y, total[n][k]);
      }
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) store_sums(scores + n * kTileKeys, total[n][0], total[n][1], total[n][2], total[n][3]);
}

// A tile's keys from .. to - 1 -> rows in whole chunks, and fours made full with the keys that `key` names for them.
template <typename C>
void copy_keys(const C* const* key, float* keys, int64_t head_dim, int from, int to) {
  for (int i = from / kBlockKeys * kBlockKeys; i < to || i % kBlockKeys; ++i) widen_row(key[i], keys + i * whole_chunks(head_dim), head_dim);
}

// Scores of N rows and a tile's keys from .. to - 1. Lines of `ahead`, if there is one, are asked for beside those used.
template <int N, typename C>
void score_block(const float* q, int64_t width, const float*, const C* const* key, const C* const* ahead, float* scores, int64_t,
                 int from, int to) {
  for (int i = from / kBlockKeys * kBlockKeys; i < to; i += kBlockKeys) {
    for (int k = i; ahead && k < i + kBlockKeys; ++k) prefetch_numbers(ahead[k], width);
    score_keys<N>(q, width, key + i, scores + i, width);
  }
}

#endif

}  // namespace octavo::OCTAVO_ISA
