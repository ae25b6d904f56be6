// Activations of gated feed-forward blocks, on vectors.
#pragma once

#include "simd.h"

namespace octavo::OCTAVO_ISA {

OCTAVO_INLINE Vec silu(Vec x) { return x / (splat(1.0f) + exp(-x)); }

// The tanh approximation, written with the logistic function: (1 + tanh(u)) / 2 = 1 / (1 + e^-2u).
OCTAVO_INLINE Vec gelu(Vec x) {
  const Vec cubic = x * fmadd(x * x, splat(0.044715f), splat(1.0f));
  return x / (splat(1.0f) + exp(cubic * splat(-1.5957691216f)));
}

}  // namespace octavo::OCTAVO_ISA
