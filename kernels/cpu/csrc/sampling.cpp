// From logits to tokens and log-probabilities, a row a task.
#include <algorithm>
#include <cmath>

#include "sampling_filters.h"
#include "sampling_largest.h"
#include "sampling_weights.h"
#include "simd.h"
#include "table.h"

namespace octavo::OCTAVO_ISA {
namespace {

// From all tokens. Weights are not kept: to compute those of one block again costs less than to store and read them all.
int64_t draw_from_all(const float* x, int64_t size, const Scale& scale, double uniform) {
  alignas(64) float block[kSumBlock];
  double* sums = static_cast<double*>(scratch(static_cast<size_t>(sum_blocks(size)) * sizeof(double)));
  for (int64_t i = 0; i < size; i += kSumBlock) sums[i / kSumBlock] = weigh(x + i, std::min(kSumBlock, size - i), scale, block);
  return invert(size, sums, uniform, [&](int64_t first, int64_t count) {
    weigh(x + first, count, scale, block);
    return block;
  });
}

// From those that min-p, top-k and top-p leave.
int64_t draw_from_likely(const float* logits, int64_t size, const Scale& scale, const Draw& draw) {
  const int64_t padded = (size + 15) / 16 * 16;
  const size_t row_bytes = static_cast<size_t>(padded) * (2 * sizeof(float) + sizeof(Candidate)) + sizeof(Candidate);
  float* memory = static_cast<float*>(scratch(row_bytes + static_cast<size_t>(sum_blocks(size)) * sizeof(double)));
  Candidate* candidates = reinterpret_cast<Candidate*>(memory + 2 * padded);
  double* sums = reinterpret_cast<double*>(candidates + padded + 1);
  if (scale.temperature != 1) divide(logits, size, scale.temperature, memory);
  const Row row{scale.temperature == 1 ? logits : memory, memory + padded, size};
  weigh(row.logits, size, {1.0f, scale.top, scale.least}, row.weights);
  keep_likely(row, static_cast<int64_t>(draw.top_k), static_cast<float>(draw.top_p), candidates);
  for (int64_t i = 0; i < size; i += kSumBlock) sums[i / kSumBlock] = total(row.weights + i, std::min(kSumBlock, size - i));
  return invert(size, sums, draw.uniform, [&](int64_t first, int64_t) { return row.weights + first; });
}

void sample_row(const SampleArgs& a, int64_t r) {
  const float* logits = a.logits + r * a.stride;
  const int64_t size = a.vocab_size;
  const Draw& draw = a.draws[r];
  const Largest best = largest(logits, size);
  a.tokens[r] = best.id;
  a.peaks[r] = best.logit;
  const float temperature = static_cast<float>(draw.temperature);  // 0 where it is too small for a float
  if (!(temperature > 0) || !std::isfinite(best.logit)) return;
  const Scale scale{temperature, best.logit / temperature, static_cast<float>(draw.min_p)};
  const bool all = draw.min_p <= 0 && (draw.top_k <= 0 || draw.top_k >= static_cast<double>(size)) && draw.top_p >= 1;
  a.tokens[r] = all ? draw_from_all(logits, size, scale, draw.uniform) : draw_from_likely(logits, size, scale, draw);
}

double log_sum_exp(const float* x, int64_t size, float* memory) {
  const float top = largest_value(x, size);
  return std::log(weigh(x, size, {1.0f, top, 0.0f}, memory)) + top;
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

void argmax(const ArgmaxArgs& a) {
  parallel_rows(a.rows, a.vocab_size, [&](int64_t row) {
    const Largest best = largest(a.logits + row * a.stride, a.vocab_size);
    a.tokens[row] = best.id;
    a.peaks[row] = best.logit;
  });
}

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
