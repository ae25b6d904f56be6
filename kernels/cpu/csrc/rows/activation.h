// Activations of feed-forward blocks, on vectors.
#pragma once

#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

#if defined(__AVX512F__)
// 1 / (1 + 2^x), to 4e-6.
OCTAVO_INLINE Vec inverse_of_one_and_power(Vec x) {
  const Vec sum = splat(1.0f) + power_of_two(min(x, splat(126.0f)));
  const Vec near = _mm512_rcp14_ps(sum);
  return near * (splat(2.0f) - sum * near);
}
#endif

// x / (1 + e^-y). T is what the result is going to be rounded to: 16 bits need less than an exact quotient.
template <typename T>
OCTAVO_INLINE Vec times_logistic(Vec x, Vec y) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 2) return x * inverse_of_one_and_power(y * splat(-1.44269504f));
#endif
  return x / (splat(1.0f) + exp(-y));
}

template <typename T>
OCTAVO_INLINE Vec silu(Vec x) {
  return times_logistic<T>(x, x);
}

// The tanh approximation, written with the logistic function: (1 + tanh(u)) / 2 = 1 / (1 + e^-2u).
template <typename T>
OCTAVO_INLINE Vec gelu(Vec x) {
  return times_logistic<T>(x, x * fmadd(x * x, splat(0.044715f), splat(1.0f)) * splat(1.5957691216f));
}

// tanh to a few units in the last place: near zero by a polynomial, for there its quotient of exponentials cancels. NaN stays.
OCTAVO_INLINE Vec precise_tanh(Vec x) {
  const Vec s = x * x;
  Vec series = fmadd(s, splat(-0.00552866468f), splat(0.0204833504f));
  series = fmadd(s, series, splat(-0.0536929816f));
  series = fmadd(s, series, splat(0.133309007f));
  series = fmadd(s, series, splat(-0.333332628f));
  const Vec far = x != x ? x : tanh(x);
  return max(x, -x) < splat(0.65f) ? fmadd(x * s, series, x) : far;
}

// x times the normal distribution's function: x (1 + erf(x / sqrt 2)) / 2, the tail by Abramowitz and Stegun 7.1.26, to 1.5e-7 of x.
OCTAVO_INLINE Vec gelu_erf(Vec x) {
  const Vec z = max(x, -x) * splat(0.70710678f);
  const Vec t = splat(1.0f) / fmadd(z, splat(0.3275911f), splat(1.0f));
  Vec series = fmadd(t, splat(1.061405429f), splat(-1.453152027f));
  series = fmadd(t, series, splat(1.421413741f));
  series = fmadd(t, series, splat(-0.284496736f));
  series = fmadd(t, series, splat(0.254829592f));
  const Vec tail = splat(0.5f) * t * series * exp(-(z * z));
  return x * (x < Vec{} ? tail : splat(1.0f) - tail);
}

}  // namespace octavo::OCTAVO_ISA
