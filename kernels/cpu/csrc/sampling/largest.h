// The largest of a row of logits.
#pragma once

#include <limits>

#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

struct Largest {
  int64_t id;
  float logit;
};

// The largest of x[0 .. size - 1], or a NaN if there is one.
inline float largest_value(const float* x, int64_t size) {
  Vec top = splat(-std::numeric_limits<float>::infinity()), other = top;
  IVec strange{};  // where a NaN was
  int64_t i = 0;
  for (; i + 2 * kLanes <= size; i += 2 * kLanes) {
    const Vec a = load(x + i), b = load(x + i + kLanes);
    top = max(a, top);
    other = max(b, other);
    strange |= (a != a) | (b != b);
  }
  top = max(top, other);
  float best = max(top);
  bool any = false;
  for (int lane = 0; lane < kLanes; ++lane) any |= strange[lane] != 0;
  for (; i < size; ++i) {
    any |= x[i] != x[i];
    best = x[i] > best ? x[i] : best;
  }
  return any ? std::numeric_limits<float>::quiet_NaN() : best;
}

// The largest of a row, the lowest id among equals; the first NaN, if there is one. A pass that finds the largest values of
// pieces, then a look at one: keeping each lane's id beside its value would take three times as long.
inline Largest largest(const float* x, int64_t size) {
  constexpr int64_t kPiece = 1024;
  float top = -std::numeric_limits<float>::infinity();
  int64_t id = 0;
  for (int64_t i = 0; i < size && top == top; i += kPiece) {
    const float best = largest_value(x + i, size - i < kPiece ? size - i : kPiece);
    if (best > top || best != best) {
      top = best;
      id = i;
    }
  }
  while (top == top ? x[id] != top : x[id] == x[id]) ++id;
  return {id, x[id]};
}

}  // namespace octavo::OCTAVO_ISA
