// The arithmetic of attention for one tile: some query rows against kTileKeys keys at a fixed place of the context.
//
// Each row's result is a function of its own query and of the keys it sees, reduced in an order that key positions alone
// fix; the rows beside it and masked keys add exact zeros. That makes attention independent of batching and chunking.
#pragma once

#include "attention/plan.h"
#include "base/simd.h"
#include "base/transpose.h"

namespace octavo::OCTAVO_ISA {

constexpr int kTileKeys = 32;
constexpr int kTileVecs = kTileKeys / kLanes;

#if defined(__AVX512F__)
constexpr int kScoreRows = 8, kValueRows = 4;  // rows whose accumulators fit the registers
#else
constexpr int kScoreRows = 12 / kTileVecs > 0 ? 12 / kTileVecs : 1, kValueRows = 2;
#endif
constexpr int kValueVecs = 4;

// In the loops below every index of an accumulator is unrolled; one known only at run time would keep them all in memory.

// Scores of N rows: q [N, D] times keys [D, kTileKeys] -> scores [N, kTileKeys].
template <int N>
void score_rows(const float* q, const float* keys, float* scores, int64_t head_dim) {
  Vec total[N][kTileVecs] = {};
  for (int64_t d = 0; d < head_dim; ++d) {
    Vec key[kTileVecs];
#pragma GCC unroll 8
    for (int j = 0; j < kTileVecs; ++j) key[j] = load(keys + d * kTileKeys + j * kLanes);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Vec x = splat(q[n * head_dim + d]);
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

// Adds N rows of weights [N, kTileKeys], keys first .. last - 1, times values [kTileKeys, width] to acc [N, width], which
// is scaled first; `vecs` vectors of the width, from column on.
template <int N, int M>
void add_values(const float* weights, const float* values, const float* scale, float* acc, int64_t width, int first, int last) {
  Vec total[N][M];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) total[n][m] = load(acc + n * width + m * kLanes) * splat(scale[n]);
  }
  for (int key = first; key < last; ++key) {
    Vec value[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) value[m] = load(values + key * width + m * kLanes);
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const Vec x = splat(weights[n * kTileKeys + key]);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) total[n][m] = fmadd(x, value[m], total[n][m]);
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) store(acc + n * width + m * kLanes, total[n][m]);
  }
}

template <int N>
void add_value_rows(const float* weights, const float* values, const float* scale, float* acc, int64_t width, int first, int last) {
  int64_t column = 0;
  for (; column + kValueVecs * kLanes <= width; column += kValueVecs * kLanes) {
    add_values<N, kValueVecs>(weights, values + column, scale, acc + column, width, first, last);
  }
  for (; column < width; column += kLanes) add_values<N, 1>(weights, values + column, scale, acc + column, width, first, last);
}

struct ScoreRule {
  float scale, soft_cap;
};

// Turns one row of scores, of which keys first .. last - 1 are seen, into weights relative to the new maximum; the rest
// become 0. Updates the row's maximum and sum, and returns what the sums so far are to be scaled by.
inline float softmax_row(float* scores, int first, int last, const ScoreRule& rule, float* maximum, float* total) {
  Vec s[kTileVecs], top = splat(kMinusInfinity);
  const IVec lane = lane_numbers();
#pragma GCC unroll 8
  for (int j = 0; j < kTileVecs; ++j) {
    s[j] = load(scores + j * kLanes) * splat(rule.scale);
    if (rule.soft_cap > 0) s[j] = tanh(s[j] / splat(rule.soft_cap)) * splat(rule.soft_cap);
    const IVec key = lane + j * kLanes;
    s[j] = (key >= first) & (key < last) ? s[j] : splat(kMinusInfinity);
    top = max(top, s[j]);
  }
  if (first >= last) {
    for (int j = 0; j < kTileVecs; ++j) store(scores + j * kLanes, Vec{});
    return 1.0f;
  }
  const float tile_top = max(top), new_top = tile_top > *maximum ? tile_top : *maximum;
  const float shrink = exp(splat(*maximum - new_top))[0];
  Vec sums{};
#pragma GCC unroll 8
  for (int j = 0; j < kTileVecs; ++j) {
    const Vec weight = exp(s[j] - splat(new_top));
    store(scores + j * kLanes, weight);
    sums += weight;
  }
  *maximum = new_top;
  *total = *total * shrink + sum(sums);
  return shrink;
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

// One value [D] -> floats [width], zero past D.
template <typename C>
void widen(const C* value, float* out, int64_t head_dim, int64_t width) {
  int64_t d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) store(out + d, load(value + d));
  for (; d < width; ++d) out[d] = d < head_dim ? to_float(value[d]) : 0.0f;
}

}  // namespace octavo::OCTAVO_ISA
