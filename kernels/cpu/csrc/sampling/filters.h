// What top-k and top-p leave of a row. No row is sorted as a whole: only the candidates that can matter are put in order.
#pragma once

#include <algorithm>

#include "sampling/weights.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

struct Candidate {
  float logit;
  int32_t id;
};

// Most likely first, ties to the lower id.
struct MoreLikely {
  bool operator()(const Candidate& a, const Candidate& b) const { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }
};

struct Row {
  const float* logits;
  float* weights;       // unnormalized probabilities; what is removed becomes 0
  int64_t size;
};

// Weights at least `least`, as candidates; returns how many.
inline int64_t gather(const Row& row, float least, Candidate* out) {
  int64_t count = 0;
  for (int64_t i = 0; i < row.size; ++i) {
    out[count] = {row.logits[i], static_cast<int32_t>(i)};
    count += row.weights[i] >= least && row.weights[i] > 0;
  }
  return count;
}

// The largest of a few limits such that the weights above it add up to `wanted`.
inline float limit_for_mass(const Row& row, double wanted) {
  for (const float limit : {0.1f, 0.01f, 1e-3f, 1e-4f}) {
    // A margin, as sums in another order may differ in the last digits.
    if (total(row.weights, row.size, limit) >= wanted * (1 + 1e-9)) return limit;
  }
  return 0;
}

// Candidates in order, as many as their cumulative weight needs to reach `wanted`; at least one.
inline int64_t reach(const Row& row, const Candidate* candidates, int64_t count, double wanted) {
  double reached = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0 && reached >= wanted) return i;
    reached += row.weights[candidates[i].id];
  }
  return count;
}

// Removes all that comes after `last` in order of likelihood.
inline void remove_after(const Row& row, const Candidate& last) {
  for (int64_t i = 0; i < row.size; ++i) {
    const bool kept = row.logits[i] > last.logit || (row.logits[i] == last.logit && i <= last.id);
    row.weights[i] = kept ? row.weights[i] : 0.0f;
  }
}

// The k most likely, in order.
inline void top_candidates(const float* x, int64_t size, int64_t k, Candidate* best) {
  if (k == 0) return;
  for (int64_t i = 0; i < k; ++i) best[i] = {x[i], static_cast<int32_t>(i)};
  std::make_heap(best, best + k, MoreLikely());  // the least likely of them in front
  for (int64_t i = k; i < size; ++i) {
    if (!(x[i] > best[0].logit)) continue;
    std::pop_heap(best, best + k, MoreLikely());
    best[k - 1] = {x[i], static_cast<int32_t>(i)};
    std::push_heap(best, best + k, MoreLikely());
  }
  std::sort_heap(best, best + k, MoreLikely());
}

// The k most likely that have any weight, in order; returns how many.
inline int64_t likeliest(const Row& row, int64_t k, Candidate* out) {
  constexpr int64_t kHeap = 1024;  // above, selecting among all is faster
  int64_t count = k;
  if (k <= kHeap) {
    top_candidates(row.logits, row.size, k, out);
    while (count > 0 && !(row.weights[out[count - 1].id] > 0)) --count;
    return count;
  }
  const int64_t all = gather(row, 0, out);
  if (k < all) std::nth_element(out, out + k - 1, out + all, MoreLikely());
  count = k < all ? k : all;
  std::sort(out, out + count, MoreLikely());
  return count;
}

// The most likely, as many as weigh `wanted` together or some more, in order; returns how many.
inline int64_t likeliest_mass(const Row& row, double wanted, Candidate* out) {
  const int64_t count = gather(row, limit_for_mass(row, wanted), out);
  std::sort(out, out + count, MoreLikely());
  return count;
}

inline double mass_of(const Row& row, const Candidate* candidates, int64_t count) {
  double mass = 0;
  for (int64_t i = 0; i < count; ++i) mass += row.weights[candidates[i].id];
  return mass;
}

inline void keep_likely(const Row& row, int64_t top_k, float top_p, Candidate* candidates) {
  const bool by_k = top_k > 0 && top_k < row.size, by_p = top_p < 1;
  if (!by_k && !by_p) return;
  const double all = by_k ? 0 : total(row.weights, row.size);
  int64_t count = by_k ? likeliest(row, top_k, candidates) : likeliest_mass(row, top_p * all, candidates);
  if (count == 0) return;
  if (by_p) count = reach(row, candidates, count, top_p * (by_k ? mass_of(row, candidates, count) : all));
  remove_after(row, candidates[count - 1]);
}

}  // namespace octavo::OCTAVO_ISA
