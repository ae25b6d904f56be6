// Scores of one row and some keys -> weights relative to the highest score so far.
#pragma once

#include "attention/plan.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

// 2^x to 2e-7 for x up to 1, and no less than 2^-125: below, a weight makes no difference. A NaN stays one.
OCTAVO_INLINE Vec weight_of(Vec x) {
  const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
  const Vec clamped = max(splat(-125.0f), x), shifted = clamped + magic, r = clamped - (shifted - magic);
  Vec y = splat(1.32647273e-3f);
  y = fmadd(y, r, splat(9.67151274e-3f));
  y = fmadd(y, r, splat(5.55073374e-2f));
  y = fmadd(y, r, splat(2.40222421e-1f));
  y = fmadd(y, r, splat(6.93146978e-1f));
  y = fmadd(y, r, splat(1.0f));
  return as_float(as_int(y) + (as_int(shifted) << 23));
}

// What scores are multiplied with to be exponents of two, and a bound on them before that (0: none).
struct ScoreRule {
  float scale, soft_cap;

  float factor() const { return (soft_cap > 0 ? 1.0f : scale) * kLog2E; }
};

// A row's scores of the keys begin .. end - 1 (whole vectors), of which it sees the keys from .. to - 1 (at least one).
struct SeenScores {
  float* scores;
  int begin, end, from, to;
};

OCTAVO_INLINE Vec hide(Vec x, IVec key, const SeenScores& row, Vec hidden) { return (key >= row.from) & (key < row.to) ? x : hidden; }

inline void cap_seen(const SeenScores& row, const ScoreRule& rule) {
  for (int i = row.begin; i < row.end; i += kLanes) {
    store(row.scores + i, tanh(load(row.scores + i) * splat(rule.scale / rule.soft_cap)) * splat(rule.soft_cap));
  }
}

template <bool kMasked>
OCTAVO_INLINE float highest_seen(const SeenScores& row) {
  Vec top = splat(kMinusInfinity);
  for (int i = row.begin; i < row.end; i += kLanes) {
    const Vec score = load(row.scores + i);
    top = max(top, kMasked ? hide(score, lane_numbers() + i, row, splat(kMinusInfinity)) : score);
  }
  return max(top);
}

// Scores -> 2^(score * factor - highest), 0 for hidden keys; returns their sum.
template <bool kMasked>
OCTAVO_INLINE float weigh_seen(const SeenScores& row, float factor, float highest) {
  const Vec scale = splat(factor), offset = splat(-highest);
  Vec sums{};
  for (int i = row.begin; i < row.end; i += kLanes) {
    Vec weight = weight_of(fmadd(load(row.scores + i), scale, offset));
    if constexpr (kMasked) weight = hide(weight, lane_numbers() + i, row, Vec{});
    store(row.scores + i, weight);
    sums += weight;
  }
  return sum(sums);
}

template <bool kMasked>
OCTAVO_INLINE float weigh(const SeenScores& row, float factor, float* maximum, float* total) {
  const float highest = highest_seen<kMasked>(row) * factor, top = highest > *maximum ? highest : *maximum;
  const float shrink = weight_of(splat(*maximum - top))[0];
  *total = *total * shrink + weigh_seen<kMasked>(row, factor, top);
  *maximum = top;
  return shrink;
}

// Turns scores into weights relative to the row's new maximum, an exponent of two. Updates maximum and sum, and returns what
// the sums so far are to be scaled by.
inline float weigh_row(const SeenScores& row, const ScoreRule& rule, float* maximum, float* total) {
  if (rule.soft_cap > 0) cap_seen(row, rule);
  const bool whole = row.from <= row.begin && row.to >= row.end;
  return whole ? weigh<false>(row, rule.factor(), maximum, total) : weigh<true>(row, rule.factor(), maximum, total);
}

}  // namespace octavo::OCTAVO_ISA
