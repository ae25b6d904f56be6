// The arithmetic of bf16 attention with matrix tiles (AMX), for one split of a context.
//
// A tile product adds, for each element of its result, the products of 32 pairs of numbers in an order of its own, whatever
// the other rows and columns hold and whichever operand is which. Scores are sums of such steps along the head, values sums
// of such steps along the keys at fixed positions, so that a row's result does not depend on the rows beside it. Masked keys
// have weight zero and add exact zeros.
#pragma once

#include "attention_plan.h"
#include "transpose.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

constexpr int64_t kStep = 32;                 // numbers that one tile product multiplies per element
constexpr int64_t kTileSide = 16;             // rows of a tile; pairs of bf16, or floats, in a row of it
constexpr int64_t kTileSize = 512;            // bf16 in a tile
constexpr int64_t kWeightGroup = 64;          // keys whose scores are turned into weights together

// Shapes of the eight tile registers, in the layout that the processor reads.
struct __attribute__((packed, aligned(64))) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Sixteen rows of bf16.
struct Sixteen {
  const bf16* data;
  int64_t stride;

  const bf16* row(int64_t i) const { return data + i * stride; }
};

// Where the tiles of an operand lie, one for each step.
struct Operand {
  const bf16* first;
  int64_t step;

  const bf16* at(int64_t i) const { return first + i * step; }
};

// Sums of one tile of few rows times two of columns, step after step -> rows of 32 floats.
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

inline void multiply_one(const Operand& above, const Operand& left, const Operand& right, int64_t steps, float* out,
                         int64_t stride) {
  begin_sums();
  for (int64_t i = 0; i < steps; ++i) add_step(above.at(i), left.at(i), right.at(i));
  end_sums(out, stride);
}

// 32 keys where they lie times up to 16 queries packed as columns -> scores [key, query], 32 rows of 16 floats.
inline void multiply_keys(const Sixteen& first, const Sixteen& second, const bf16* queries, int64_t steps, float* out) {
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t i = 0; i < steps; ++i) {
    _tile_loadd(6, queries + i * kTileSize, 64);
    _tile_loadd(4, first.data + i * kStep, first.stride * 2);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(4, second.data + i * kStep, second.stride * 2);
    _tile_dpbf16ps(1, 4, 6);
  }
  _tile_stored(0, out, 64);
  _tile_stored(1, out + 256, 64);
}

// 16 scores of 16 keys [key, query] -> rows of scores [query, key], the first `rows` of them.
OCTAVO_INLINE void turn_scores(const float* from, float* scores, int64_t stride, int64_t rows) {
  Vec square[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) square[i] = load(from + i * 16);
  transpose(square);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (i < rows) store(scores + i * stride, square[i]);
  }
}

// Sixteen rows as columns of tiles, one tile a step: pairs of numbers stay together.
inline void pack_columns(const Sixteen& rows, int64_t steps, bf16* to) {
  for (int64_t step = 0; step < steps; ++step) {
    Vec square[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) square[i] = load(reinterpret_cast<const float*>(rows.row(i) + step * kStep));
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) store(reinterpret_cast<float*>(to + step * kTileSize + i * 32), square[i]);
  }
}

// Places of two rows' numbers, taken in turns: of the first half of 32, and of the second.
struct Turns {
  alignas(64) int16_t low[32], high[32];
};

constexpr Turns make_turns() {
  Turns turns{};
  for (int i = 0; i < 16; ++i) {
    turns.low[2 * i] = static_cast<int16_t>(i);
    turns.low[2 * i + 1] = static_cast<int16_t>(i + 32);
    turns.high[2 * i] = static_cast<int16_t>(i + 16);
    turns.high[2 * i + 1] = static_cast<int16_t>(i + 48);
  }
  return turns;
}

inline constexpr Turns kTurns = make_turns();

// 32 numbers, from d on, of sixteen keys' values as eight rows of two tiles: two keys' numbers in turns.
inline void pack_rows(const Sixteen& values, int64_t d, bf16* to) {
  const __m512i low = _mm512_load_si512(kTurns.low), high = _mm512_load_si512(kTurns.high);
#pragma GCC unroll 8
  for (int64_t pair = 0; pair < 8; ++pair) {
    const __m512i a = _mm512_loadu_si512(values.row(2 * pair) + d), b = _mm512_loadu_si512(values.row(2 * pair + 1) + d);
    _mm512_store_si512(to + pair * 32, _mm512_permutex2var_epi16(a, low, b));
    _mm512_store_si512(to + pair * 32 + kTileSize, _mm512_permutex2var_epi16(a, high, b));
  }
}

// 2^x for x <= 0 or little more, to 3e-6, which is far below the rounding of weights to bf16; lanes not in `mask` are zero.
OCTAVO_INLINE Vec power_of_two(Vec x, __mmask16 mask) {
  const Vec r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  Vec y = splat(1.35341679e-2f);
  y = fmadd(y, r, splat(5.20114628e-2f));
  y = fmadd(y, r, splat(2.41442754e-1f));
  y = fmadd(y, r, splat(6.93003836e-1f));
  y = fmadd(y, r, splat(1.00000259f));
  return _mm512_maskz_scalef_ps(mask, y, x);
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

// The same for a row that sees nothing.
inline void write_no_weights(const ScoreRow& row, bf16* weights) {
  for (int64_t key = row.begin; key < row.end; key += kStep) {
    _mm512_store_si512(weights + key / kStep * kTileSize, _mm512_setzero_si512());
  }
}

// Turns a row's scores (times `scale`, the score in natural units) into weights relative to the highest.
inline void soften_row(const ScoreRow& row, float scale, bf16* weights, float* maximum, float* total) {
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
