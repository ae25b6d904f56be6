// The arithmetic of bf16 attention with matrix tiles (AMX), for one split of a context.
//
// A tile product adds, for each element of its result, the products of 32 pairs of numbers in an order of its own, whatever
// the other rows and columns hold and whichever operand is which. Scores are sums of such steps along the head, values sums
// of such steps along the keys at fixed positions, so that a row's result does not depend on the rows beside it. Masked keys
// have weight zero and add exact zeros.
#pragma once

#include "base/tile_config.h"
#include "attention/plan.h"
#include "attention/kv_tiles.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

constexpr int64_t kWeightGroup = 64;          // keys whose scores are turned into weights together

// Full tiles, but for `rows` of those that hold sums and their left operand.
inline TileConfig tiles_of(int64_t rows) {
  TileConfig config;
  config.rows[0] = config.rows[1] = config.rows[4] = static_cast<uint8_t>(rows);
  return config;
}

// Sums of one tile times two of columns, step after step -> rows of 32 floats. As few registers as can be, see linear/amx.h.
OCTAVO_INLINE void begin_sums() {
  _tile_zero(0);
  _tile_zero(1);
}

OCTAVO_INLINE void add_step(const bf16* rows, const bf16* left, const bf16* right) {
  _tile_loadd(4, rows, 64);
  _tile_loadd(6, left, 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(6, right, 64);
  _tile_dpbf16ps(1, 4, 6);
}

OCTAVO_INLINE void end_sums(float* out, int64_t stride) {
  _tile_stored(0, out, stride * 4);
  _tile_stored(1, out + 16, stride * 4);
}

// The keys of a weight group from .. to - 1, as bits.
OCTAVO_INLINE uint64_t bits_between(int64_t from, int64_t to) {
  const auto below = [](int64_t n) { return n >= 64 ? ~uint64_t{0} : n <= 0 ? uint64_t{0} : (uint64_t{1} << n) - 1; };
  return below(to) & ~below(from);
}

// One row's scores of the keys begin .. end - 1 of a split (whole weight groups), of which it sees the keys from .. to - 1.
struct ScoreRow {
  float* scores;
  int64_t begin, end, from, to;
};

OCTAVO_INLINE uint64_t seen_in_group(const ScoreRow& row, int64_t group) { return bits_between(row.from - group, row.to - group); }

inline void cap_scores(const ScoreRow& row, float scale, float soft_cap) {
  for (int64_t i = row.begin; i < row.end; i += kLanes) {
    store(row.scores + i, tanh(load(row.scores + i) * splat(scale / soft_cap)) * splat(soft_cap));
  }
}

template <bool kMasked>
float highest_score(const ScoreRow& row) {
  Vec top[4] = {splat(kMinusInfinity), splat(kMinusInfinity), splat(kMinusInfinity), splat(kMinusInfinity)};
  for (int64_t group = row.begin; group < row.end; group += kWeightGroup) {
    const uint64_t seen = kMasked ? seen_in_group(row, group) : 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Vec score = load(row.scores + group + i * kLanes);
      if constexpr (kMasked) {
        top[i] = _mm512_mask_max_ps(top[i], static_cast<__mmask16>(seen >> (16 * i)), top[i], score);
      } else {
        top[i] = _mm512_max_ps(top[i], score);
      }
    }
  }
  return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])));
}

// Writes 2^(score * factor - highest) of each key as a row of tiles, one tile for 32 keys; returns their sum.
template <bool kMasked>
float write_weights(const ScoreRow& row, float factor, float highest, bf16* weights) {
  const Vec scale = splat(factor), offset = splat(-highest);
  Vec sums[4] = {};
  for (int64_t group = row.begin; group < row.end; group += kWeightGroup) {
    const uint64_t seen = kMasked ? seen_in_group(row, group) : ~uint64_t{0};
    Vec weight[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Vec x = fmadd(load(row.scores + group + i * kLanes), scale, offset);
      weight[i] = power_of_two(x, static_cast<__mmask16>(seen >> (16 * i)));
      sums[i] += weight[i];
    }
    bf16* to = weights + group / kStep * kTileSize;
    _mm512_store_si512(to, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(weight[1], weight[0])));
    _mm512_store_si512(to + kTileSize, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(weight[3], weight[2])));
  }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Weights of a row that sees nothing: zeros.
inline void write_no_weights(const ScoreRow& row, bf16* weights) {
  for (int64_t key = row.begin; key < row.end; key += kStep) {
    _mm512_store_si512(weights + key / kStep * kTileSize, _mm512_setzero_si512());
  }
}

// Turns a row's scores (times `scale`, the score in natural units) into weights relative to the highest.
inline void softmax_row(const ScoreRow& row, float scale, bf16* weights, float* maximum, float* total) {
  constexpr float kLog2E = 1.44269504f;
  if (row.from >= row.to) {
    write_no_weights(row, weights);
    *maximum = kMinusInfinity;
    *total = 0.0f;
    return;
  }
  const bool whole = row.from <= row.begin && row.to >= row.end;
  const float highest = whole ? highest_score<false>(row) : highest_score<true>(row), factor = scale * kLog2E;
  *maximum = highest * scale;
  *total = whole ? write_weights<false>(row, factor, highest * factor, weights)
                 : write_weights<true>(row, factor, highest * factor, weights);
}

#endif

}  // namespace octavo::OCTAVO_ISA
