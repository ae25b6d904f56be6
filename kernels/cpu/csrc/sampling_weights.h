// Logits as weights (probabilities not divided by their sum), their sums, and the id at a point of their cumulative sum.
#pragma once

#include <algorithm>

#include "simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int kWide = kLanes / 2;
typedef double Doubles __attribute__((vector_size(kWide * 8)));

// kWide successive floats in double.
OCTAVO_INLINE Doubles load_wide(const float* p) {
  typedef float Part __attribute__((vector_size(kWide * 4)));
  Part v;
  std::memcpy(&v, p, sizeof v);
#if defined(__AVX512F__)
  return _mm512_cvtps_pd(v);
#elif defined(__AVX2__)
  return _mm256_cvtps_pd(v);
#else
  return __builtin_convertvector(v, Doubles);
#endif
}

// A sum in double: eight interleaved sums, added up in the end.
class Sum {
 public:
  static constexpr int kStep = 8;

  OCTAVO_INLINE void add_step(const float* x) {
    for (int j = 0; j < kStep / kWide; ++j) parts_[j] += load_wide(x + j * kWide);
  }

  // Only what is at least `least`.
  OCTAVO_INLINE void add_step(const float* x, double least) {
    for (int j = 0; j < kStep / kWide; ++j) {
      const Doubles v = load_wide(x + j * kWide);
      parts_[j] += v >= least ? v : Doubles{};
    }
  }

  // What is left at the end of a row.
  OCTAVO_INLINE void add_one(float x) { parts_[0][0] += x; }

  double result() const {
    double sums[kStep];
    std::memcpy(sums, parts_, sizeof sums);
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
  }

 private:
  Doubles parts_[kStep / kWide] = {};
};

// Sum of what is at least `least`.
inline double total(const float* x, int64_t size, float least = 0) {
  Sum sum;
  int64_t i = 0;
  for (; i + Sum::kStep <= size; i += Sum::kStep) sum.add_step(x + i, static_cast<double>(least));
  for (; i < size; ++i) sum.add_one(x[i] >= least ? x[i] : 0.0f);
  return sum.result();
}

// Weights are e^(logit / temperature - top), or 0 where that is below `least`.
struct Scale {
  float temperature, top, least;
};

// out[i] = x[i] / divisor
inline void divide(const float* x, int64_t size, float divisor, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(out + i, load(x + i) / splat(divisor));
  for (; i < size; ++i) out[i] = x[i] / divisor;
}

template <bool kDivided>
double weigh(const float* x, int64_t size, const Scale& scale, float* out) {
  constexpr int kStep = kLanes > Sum::kStep ? kLanes : Sum::kStep;
  const auto weight = [&](Vec v) {
    v = exp((kDivided ? v / splat(scale.temperature) : v) - splat(scale.top));
    return v >= splat(scale.least) ? v : Vec{};
  };
  Sum sum;
  int64_t i = 0;
  for (; i + kStep <= size; i += kStep) {
    for (int j = 0; j < kStep; j += kLanes) store(out + i + j, weight(load(x + i + j)));
    for (int j = 0; j < kStep; j += Sum::kStep) sum.add_step(out + i + j);
  }
  for (int64_t j = i; j < size; j += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, size - j);
    store_some(out + j, weight(load_some(x + j, count)), count);
  }
  for (; i + Sum::kStep <= size; i += Sum::kStep) sum.add_step(out + i);
  for (int64_t j = i; j < size; ++j) sum.add_one(out[j]);
  return sum.result();
}

// The weights of x; returns their sum. Both in one pass: the additions, which wait for one another, cost nothing beside it.
inline double weigh(const float* x, int64_t size, const Scale& scale, float* out) {
  // To divide by 1 changes nothing, and takes as long as the rest.
  return scale.temperature == 1 ? weigh<false>(x, size, scale, out) : weigh<true>(x, size, scale, out);
}

constexpr int64_t kSumBlock = 512;

constexpr int64_t sum_blocks(int64_t size) { return (size + kSumBlock - 1) / kSumBlock; }

// First of `size` ids whose cumulative weight passes `uniform` of the total.
//
// sums: of the weights of each block of kSumBlock ids. weights(first, count) gives the weights of a block.
template <typename Weights>
int64_t invert(int64_t size, const double* sums, double uniform, const Weights& weights) {
  const auto length = [&](int64_t first) { return std::min(kSumBlock, size - first); };
  double sum = 0;
  for (int64_t b = 0; b < sum_blocks(size); ++b) sum += sums[b];
  double left = uniform * sum;
  int64_t last = 0;
  for (int64_t first = 0; first < size; first += kSumBlock) {
    const double block = sums[first / kSumBlock];
    if (block > 0) last = first;
    if (block <= left) {
      left -= block;
      continue;
    }
    const float* w = weights(first, length(first));
    for (int64_t j = 0; j < length(first); ++j) {
      if (w[j] > left) return first + j;
      left -= w[j];
    }
  }
  // Rounding left a crumb: the last id that has any weight.
  const float* w = weights(last, length(last));
  int64_t chosen = last;
  for (int64_t j = 0; j < length(last); ++j) chosen = w[j] > 0 ? last + j : chosen;
  return chosen;
}

}  // namespace octavo::OCTAVO_ISA
