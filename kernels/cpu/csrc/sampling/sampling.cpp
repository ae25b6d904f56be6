// From logits to tokens and log-probabilities, a row a task.
#include <algorithm>
#include <cmath>
#include <limits>

#include "sampling/filters.h"
#include "sampling/largest.h"
#include "sampling/weights.h"
#include "base/simd.h"
#include "base/table.h"

namespace octavo::OCTAVO_ISA {
namespace {

// One over the temperature; 0 where no token is drawn.
float sharpness_of(const Draw& draw) {
  const float temperature = static_cast<float>(draw.temperature);  // 0 where it is too small for a float
  using Limits = std::numeric_limits<float>;
  return temperature > 0 ? std::clamp(1 / temperature, Limits::min(), Limits::max()) : 0.0f;
}

bool draws_from_all(const Draw& draw, int64_t size) {
  return draw.min_p <= 0 && (draw.top_k <= 0 || draw.top_k >= static_cast<double>(size)) && draw.top_p >= 1;
}

// From the tokens of all runs, which are used up. logits_of(run) gives a run's logits.
template <typename LogitsOf>
int64_t draw_from_runs(float* runs, int64_t size, const Scale& scale, double uniform, const LogitsOf& logits_of) {
  const int64_t count = count_runs(size);
  const float* masses = runs + count;
  weigh(runs, count, scale, runs);
  for (int64_t i = 0; i < count; ++i) runs[i] *= masses[i];
  float weights[kRun];
  return invert(size, runs, uniform, [&](int64_t run, int64_t some) {
    weigh(logits_of(run), some, scale, weights);
    return weights;
  });
}

// What the epilogue of a product makes of a row, of its logits as they lie.
void find_runs(const float* logits, int64_t size, float sharpness, float* runs) {
  float* masses = runs + count_runs(size);
  for (int64_t first = 0; first < size; first += kRun, ++runs, ++masses) {
    const int64_t count = std::min<int64_t>(kRun, size - first);
    RunValues values;
    if (count == kRun) {
      values = load_run(logits + first);
    } else {
      float padded[kRun];
      std::fill(std::copy_n(logits + first, count, padded), padded + kRun, kNever);
      values = load_run(padded);
    }
    *runs = peak_of(values);
    *masses = mass_of(values, *runs, sharpness);
  }
}

int64_t draw_from_all(const float* logits, int64_t size, const Scale& scale, double uniform) {
  float* runs = static_cast<float*>(scratch(static_cast<size_t>(2 * count_runs(size)) * sizeof(float)));
  find_runs(logits, size, scale.sharpness, runs);
  return draw_from_runs(runs, size, scale, uniform, [&](int64_t run) { return logits + run * kRun; });
}

// From those that min-p, top-k and top-p leave.
int64_t draw_from_likely(const float* logits, int64_t size, const Scale& scale, const Draw& draw) {
  const int64_t padded_size = count_runs(size) * kRun;
  const size_t bytes = static_cast<size_t>(padded_size + 1) * (sizeof(float) + sizeof(Candidate));
  float* weights = static_cast<float*>(scratch(bytes + static_cast<size_t>(count_runs(size)) * sizeof(float)));
  Candidate* candidates = reinterpret_cast<Candidate*>(weights + padded_size);
  float* sums = reinterpret_cast<float*>(candidates + padded_size + 1);
  const Row row{logits, weights, size};
  weigh(logits, size, scale, weights);
  keep_likely(row, static_cast<int64_t>(draw.top_k), static_cast<float>(draw.top_p), candidates);
  for (int64_t i = 0; i < size; i += kRun) {
    sums[i / kRun] = static_cast<float>(total(weights + i, std::min<int64_t>(kRun, size - i)));
  }
  return invert(size, sums, draw.uniform, [&](int64_t run, int64_t) { return weights + run * kRun; });
}

void sample_row(const SampleArgs& a, int64_t r) {
  const float* logits = a.logits + r * a.stride;
  const Largest best = largest(logits, a.vocab_size);
  a.tokens[r] = best.id;
  a.peaks[r] = best.logit;
  if (!a.draws) return;
  const Draw& draw = a.draws[r];
  const float sharpness = sharpness_of(draw);
  if (sharpness == 0 || !std::isfinite(best.logit)) return;
  const Scale scale{sharpness, best.logit, static_cast<float>(draw.min_p)};
  a.tokens[r] = draws_from_all(draw, a.vocab_size) ? draw_from_all(logits, a.vocab_size, scale, draw.uniform)
                                                   : draw_from_likely(logits, a.vocab_size, scale, draw);
}

// A row's logits of one run, made again: an element of a product is the same whatever else is computed with it.
void multiply_run(const SampleLinearArgs& a, int64_t row, int64_t run, float* logits) {
  const int64_t bytes_of = a.dtype == DType::f32 ? 4 : 2;
  char* x = static_cast<char*>(a.x.data) + row * a.x.stride * bytes_of;
  LinearArgs product{a.dtype, Epilogue::wide, 1.0f, {logits, 0}, {x, a.x.stride}, 1, a.weight, nullptr};
  product.first_panel = run;
  product.num_panels = 1;
  linear(product);
}

void sample_runs(const SampleLinearArgs& a, int64_t r, float sharpness) {
  const int64_t size = a.weight.n, count = count_runs(size);
  float* runs = a.runs + r * 2 * count;
  float logits[kRun];
  const auto logits_of = [&](int64_t run) {
    multiply_run(a, r, run, logits);
    return logits;
  };
  const Largest top = largest(runs, count);
  a.peaks[r] = top.logit;
  if (sharpness > 0 && std::isfinite(top.logit)) {
    a.tokens[r] = draw_from_runs(runs, size, {sharpness, top.logit, 0.0f}, a.draws[r].uniform, logits_of);
  } else {
    a.tokens[r] = top.id * kRun + largest(logits_of(top.id), std::min<int64_t>(kRun, size - top.id * kRun)).id;
  }
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

void sample(const SampleArgs& args) {
  parallel_rows(args.rows, args.vocab_size * (args.draws ? 4 : 1), [&](int64_t row) { sample_row(args, row); });
}

bool sample_linear(const SampleLinearArgs& args) {
  const Array<float> sharpness(args.rows);
  for (int64_t row = 0; row < args.rows; ++row) {
    if (args.draws && !draws_from_all(args.draws[row], args.weight.n)) return false;
    sharpness[row] = args.draws ? sharpness_of(args.draws[row]) : 0.0f;
  }
  const Rows runs{args.runs, 2 * count_runs(args.weight.n)};
  LinearArgs product{args.dtype, Epilogue::runs, 1.0f, runs, args.x, args.rows, args.weight, nullptr};
  product.sharpness = args.draws ? sharpness.get() : nullptr;
  linear(product);
  parallel_for(args.rows, args.rows > 1, [&](int64_t row) { sample_runs(args, row, sharpness[row]); });
  return true;
}

bool top_logprobs(const LogprobArgs& args) {
  for (int64_t row = 0; row < args.rows; ++row) {
    if (args.chosen[row] < 0 || args.chosen[row] >= args.vocab_size) return false;
  }
  parallel_rows(args.rows, args.vocab_size * 4, [&](int64_t row) { logprobs_row(args, row); });
  return true;
}

}  // namespace octavo::OCTAVO_ISA
