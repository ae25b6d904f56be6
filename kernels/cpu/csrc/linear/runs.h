// Logits in runs of 32 successive tokens: what is kept of a run while its logits are forgotten.
//
// The peak is its largest logit, or a NaN if there is one. The mass is the sum of e^((logit - peak) * sharpness), where
// sharpness is one divided by the temperature. With them a token is chosen from a row after a look at the logits of one run.
// A row of runs is its peaks, followed by its masses.
#pragma once

#include <limits>

#include "linear/layout.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int kRun = kPanel;
constexpr int kRunVecs = kRun / kLanes;
constexpr float kNever = -std::numeric_limits<float>::infinity();  // the logit of what is not drawn

constexpr int64_t count_runs(int64_t size) { return (size + kRun - 1) / kRun; }

struct RunValues {
  Vec of[kRunVecs];
};

OCTAVO_INLINE RunValues load_run(const float* logits) {
  RunValues values;
#pragma GCC unroll 8
  for (int i = 0; i < kRunVecs; ++i) values.of[i] = load(logits + i * kLanes);
  return values;
}

OCTAVO_INLINE float peak_of(const RunValues& values) {
  Vec top = values.of[0];
  bool strange = false;
#pragma GCC unroll 8
  for (int i = 0; i < kRunVecs; i += 2) strange |= any_nan(values.of[i], values.of[i + 1]);
#pragma GCC unroll 8
  for (int i = 1; i < kRunVecs; ++i) top = max(top, values.of[i]);
  return strange ? std::numeric_limits<float>::quiet_NaN() : max(top);
}

// Added up in the same order for every instruction set.
OCTAVO_INLINE float mass_of(const RunValues& values, float peak, float sharpness) {
  const Vec base = splat(peak > kNever ? peak : 0.0f), scale = splat(sharpness);
  RunValues weights;
#pragma GCC unroll 8
  for (int i = 0; i < kRunVecs; ++i) weights.of[i] = exp((values.of[i] - base) * scale);
#pragma GCC unroll 4
  for (int half = kRunVecs / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < half; ++i) weights.of[i] += weights.of[i + half];
  }
  return sum(weights.of[0]);
}

}  // namespace octavo::OCTAVO_ISA
