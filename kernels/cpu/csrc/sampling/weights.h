// Logits as weights (probabilities not divided by their sum), their sums, and the id at a point of their cumulative sum.
#pragma once

#include <algorithm>

#include "linear/runs.h"

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
  static constexpr int kStride = 8;

  OCTAVO_INLINE void add_step(const float* x) {
    for (int j = 0; j < kStride / kWide; ++j) parts_[j] += load_wide(x + j * kWide);
  }

  // Only what is at least `least`.
  OCTAVO_INLINE void add_step(const float* x, double least) {
    for (int j = 0; j < kStride / kWide; ++j) {
      const Doubles v = load_wide(x + j * kWide);
      parts_[j] += v >= least ? v : Doubles{};
    }
  }

  // What is left at the end of a row.
  OCTAVO_INLINE void add_one(float x) { parts_[0][0] += x; }

  double result() const {
    double sums[kStride];
    std::memcpy(sums, parts_, sizeof sums);
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
  }

 private:
  Doubles parts_[kStride / kWide] = {};
};

// Sum of what is at least `least`.
inline double total(const float* x, int64_t size, float least = 0) {
  Sum sum;
  int64_t i = 0;
  for (; i + Sum::kStride <= size; i += Sum::kStride) sum.add_step(x + i, static_cast<double>(least));
  for (; i < size; ++i) sum.add_one(x[i] >= least ? x[i] : 0.0f);
  return sum.result();
}

// Weights are e^((logit - top) * sharpness), or 0 where that is below `least`.
struct Scale {
  float sharpness, top, least;
};

// The weights of x; returns their sum. Both in one pass: the additions, which wait for one another, cost nothing beside it.
inline double weigh(const float* x, int64_t size, const Scale& scale, float* out) {
  constexpr int kStride = kLanes > Sum::kStride ? kLanes : Sum::kStride;
  const auto weight = [&](Vec v) {
    v = exp((v - splat(scale.top)) * splat(scale.sharpness));
    return v >= splat(scale.least) ? v : Vec{};
  };
  Sum sum;
  int64_t i = 0;
  for (; i + kStride <= size; i += kStride) {
    for (int j = 0; j < kStride; j += kLanes) store(out + i + j, weight(load(x + i + j)));
    for (int j = 0; j < kStride; j += Sum::kStride) sum.add_step(out + i + j);
  }
  for (int64_t j = i; j < size; j += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, size - j);
    store_some(out + j, weight(load_some(x + j, count)), count);
  }
  for (; i + Sum::kStride <= size; i += Sum::kStride) sum.add_step(out + i);
  for (int64_t j = i; j < size; ++j) sum.add_one(out[j]);
  return sum.result();
}

// First of `size` ids whose cumulative weight passes `uniform` of the total.
//
// sums: of the weights of each run. weights(run, count) gives the weights of a run.
template <typename Weights>
int64_t invert(int64_t size, const float* sums, double uniform, const Weights& weights) {
  const int64_t runs = count_runs(size);
  const auto length = [&](int64_t run) { return std::min<int64_t>(kRun, size - run * kRun); };
  double left = uniform * total(sums, runs);
  int64_t last = 0;
  for (int64_t run = 0; run < runs; ++run) {
    if (sums[run] > 0) last = run;
    if (sums[run] <= left) {
      left -= sums[run];
      continue;
    }
    const float* w = weights(run, length(run));
    for (int64_t j = 0; j < length(run); ++j) {
      if (w[j] > left) return run * kRun + j;
      left -= w[j];
    }
  }
  // Rounding left a crumb: the last id that has any weight.
  const float* w = weights(last, length(last));
  int64_t chosen = 0;
  for (int64_t j = 0; j < length(last); ++j) chosen = w[j] > 0 ? j : chosen;
  return last * kRun + chosen;
}

}  // namespace octavo::OCTAVO_ISA
