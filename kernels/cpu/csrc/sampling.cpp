// From logits to tokens and log-probabilities, a row a task. No row is sorted as a whole: top-k and top-p order only the
// candidates that can matter.
#include <algorithm>
#include <cmath>
#include <limits>

#include "simd.h"
#include "table.h"

namespace octavo::OCTAVO_ISA {
namespace {

struct Candidate {
  float logit;
  int32_t id;
};

// Most likely first, ties to the lower id.
struct MoreLikely {
  bool operator()(const Candidate& a, const Candidate& b) const { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }
};

// out[i] = x[i] / divisor; returns the largest.
float divide(const float* x, int64_t size, float divisor, float* out) {
  Vec top = splat(-std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Vec scaled = load(x + i) / splat(divisor);
    store(out + i, scaled);
    top = max(top, scaled);
  }
  float best = max(top);
  for (; i < size; ++i) {
    out[i] = x[i] / divisor;
    best = out[i] > best ? out[i] : best;
  }
  return best;
}

// out[i] = e^(x[i] - top), or 0 where that is below `least`.
void exponentials(const float* x, int64_t size, float top, float least, float* out) {
  for (int64_t i = 0; i < size; i += kLanes) {
    const int64_t some = size - i;
    Vec y = exp((some < kLanes ? load_some(x + i, some) : load(x + i)) - splat(top));
    y = y < splat(least) ? Vec{} : y;
    if (some < kLanes) {
      store_some(out + i, y, some);
    } else {
      store(out + i, y);
    }
  }
}

// Sum of what is at least `least`, in double, in eight interleaved sums.
double total(const float* x, int64_t size, float least = 0) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= size; i += 8) {
    for (int j = 0; j < 8; ++j) sums[j] += x[i + j] >= least ? x[i + j] : 0.0f;
  }
  for (; i < size; ++i) sums[0] += x[i] >= least ? x[i] : 0.0f;
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

struct Row {
  const float* logits;  // scaled
  float* weights;       // unnormalized probabilities; what is removed becomes 0
  int64_t size;
};

// Weights at least `least`, as candidates; returns how many.
int64_t gather(const Row& row, float least, Candidate* out) {
  int64_t count = 0;
  for (int64_t i = 0; i < row.size; ++i) {
    out[count] = {row.logits[i], static_cast<int32_t>(i)};
    count += row.weights[i] >= least && row.weights[i] > 0;
  }
  return count;
}

// The largest of a few limits such that the weights above it add up to `wanted`.
float limit_for_mass(const Row& row, double wanted) {
  for (const float limit : {0.1f, 0.01f, 1e-3f, 1e-4f}) {
    // A margin, as sums in another order may differ in the last digits.
    if (total(row.weights, row.size, limit) >= wanted * (1 + 1e-9)) return limit;
  }
  return 0;
}

// Candidates in order, as many as their cumulative weight needs to reach `wanted`; at least one.
int64_t reach(const Row& row, const Candidate* candidates, int64_t count, double wanted) {
  double reached = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0 && reached >= wanted) return i;
    reached += row.weights[candidates[i].id];
  }
  return count;
}

// Removes all that comes after `last` in order of likelihood.
void remove_after(const Row& row, const Candidate& last) {
  for (int64_t i = 0; i < row.size; ++i) {
    const bool kept = row.logits[i] > last.logit || (row.logits[i] == last.logit && i <= last.id);
    row.weights[i] = kept ? row.weights[i] : 0.0f;
  }
}

// The k most likely, in order.
void top_candidates(const float* x, int64_t size, int64_t k, Candidate* best) {
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
int64_t likeliest(const Row& row, int64_t k, Candidate* out) {
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
int64_t likeliest_mass(const Row& row, double wanted, Candidate* out) {
  const int64_t count = gather(row, limit_for_mass(row, wanted), out);
  std::sort(out, out + count, MoreLikely());
  return count;
}

double mass_of(const Row& row, const Candidate* candidates, int64_t count) {
  double mass = 0;
  for (int64_t i = 0; i < count; ++i) mass += row.weights[candidates[i].id];
  return mass;
}

void keep_likely(const Row& row, int64_t top_k, float top_p, Candidate* candidates) {
  const bool by_k = top_k > 0 && top_k < row.size, by_p = top_p < 1;
  if (!by_k && !by_p) return;
  const double all = by_k ? 0 : total(row.weights, row.size);
  int64_t count = by_k ? likeliest(row, top_k, candidates) : likeliest_mass(row, top_p * all, candidates);
  if (count == 0) return;
  if (by_p) count = reach(row, candidates, count, top_p * (by_k ? mass_of(row, candidates, count) : all));
  remove_after(row, candidates[count - 1]);
}

// First id whose cumulative weight passes `uniform` of the total.
int64_t invert(const Row& row, double uniform) {
  constexpr int64_t kBlock = 512;
  double sum = 0;
  for (int64_t i = 0; i < row.size; i += kBlock) sum += total(row.weights + i, std::min(kBlock, row.size - i));
  double left = uniform * sum;
  int64_t last = 0;
  for (int64_t i = 0; i < row.size; i += kBlock) {
    const int64_t end = std::min(i + kBlock, row.size);
    const double block = total(row.weights + i, end - i);
    if (block > 0) last = i;
    if (block <= left) {
      left -= block;
      continue;
    }
    for (int64_t j = i; j < end; ++j) {
      if (row.weights[j] > left) return j;
      left -= row.weights[j];
    }
  }
  // Rounding left a crumb: the last id that has any weight.
  int64_t chosen = last;
  for (int64_t j = last; j < std::min(last + kBlock, row.size); ++j) chosen = row.weights[j] > 0 ? j : chosen;
  return chosen;
}

void sample_row(const SampleArgs& a, int64_t r) {
  const int64_t size = a.vocab_size, padded = (size + 15) / 16 * 16;
  float* memory = static_cast<float*>(scratch(static_cast<size_t>(padded) * (2 * sizeof(float) + sizeof(Candidate)) + sizeof(Candidate)));
  const Row row{memory, memory + padded, size};
  const float top = divide(a.logits + r * a.stride, size, a.temperature[r], memory);
  exponentials(row.logits, size, top, a.min_p[r], row.weights);
  keep_likely(row, a.top_k[r], a.top_p[r], reinterpret_cast<Candidate*>(memory + 2 * padded));
  a.out[r] = invert(row, a.uniform[r]);
}

double log_sum_exp(const float* x, int64_t size, float* memory) {
  const float top = divide(x, size, 1.0f, memory);
  exponentials(x, size, top, 0.0f, memory);
  return std::log(total(memory, size)) + top;
}

void logprobs_row(const LogprobArgs& a, int64_t r) {
  const float* x = a.logits + r * a.stride;
  const int64_t size = a.vocab_size, padded = (size + 15) / 16 * 16;
  float* memory = static_cast<float*>(scratch(static_cast<size_t>(padded) * sizeof(float) + static_cast<size_t>(a.k) * sizeof(Candidate)));
  Candidate* best = reinterpret_cast<Candidate*>(memory + padded);
  const double norm = log_sum_exp(x, size, memory);
  top_candidates(x, size, a.k, best);
  int32_t* ids = a.ids + r * (a.k + 1);
  float* logprobs = a.logprobs + r * (a.k + 1);
  const float chosen = x[a.chosen[r]];
  ids[0] = static_cast<int32_t>(a.chosen[r]);
  logprobs[0] = static_cast<float>(chosen - norm);
  for (int64_t i = 0; i < a.k; ++i) {
    ids[i + 1] = best[i].id;
    logprobs[i + 1] = static_cast<float>(best[i].logit - norm);
  }
  int32_t rank = 1;
  for (int64_t i = 0; i < size; ++i) rank += x[i] > chosen;
  a.ranks[r] = rank;
}

}  // namespace

void sample(const SampleArgs& args) {
  parallel_rows(args.rows, args.vocab_size * 4, [&](int64_t row) { sample_row(args, row); });
}

bool top_logprobs(const LogprobArgs& args) {
  for (int64_t row = 0; row < args.rows; ++row) {
    if (args.chosen[row] < 0 || args.chosen[row] >= args.vocab_size) return false;
  }
  parallel_rows(args.rows, args.vocab_size * 4, [&](int64_t row) { logprobs_row(args, row); });
  return true;
}

}  // namespace octavo::OCTAVO_ISA
