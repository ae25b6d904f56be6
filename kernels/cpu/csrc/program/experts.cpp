// Mixtures of experts: rows are sorted by expert, multiplied, and added up where they came from.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/dispatch.h"
#include "program/ops.h"

namespace octavo {
namespace {

// Which experts each row goes to, ascending, what each counts for, and where the row stands among those sorted by expert.
struct Routes {
  std::vector<int32_t> experts;
  std::vector<float> shares;
  std::vector<int64_t> places, first;  // `first`: of each expert's rows, and their end
};

// The best experts of one row by probability (ties to the lower number), and their shares: a softmax over all experts.
void choose(const float* logits, int64_t num_experts, int64_t top_k, bool renormalize, int32_t* experts, float* shares) {
  if (std::any_of(logits, logits + num_experts, [](float x) { return std::isnan(x); })) {
    std::iota(experts, experts + top_k, 0);  // nothing can be ordered: the row's result is not a number either
    std::fill_n(shares, top_k, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  std::vector<int32_t> order(static_cast<size_t>(num_experts));
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + top_k, order.end(), [&](int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  });
  std::sort(order.begin(), order.begin() + top_k);
  std::copy_n(order.begin(), top_k, experts);
  const float top = *std::max_element(logits, logits + num_experts);
  float all = 0.0f, chosen = 0.0f;
  for (int64_t e = 0; e < num_experts; ++e) all += std::exp(logits[e] - top);
  for (int64_t i = 0; i < top_k; ++i) chosen += std::exp(logits[experts[i]] - top);
  for (int64_t i = 0; i < top_k; ++i) shares[i] = std::exp(logits[experts[i]] - top) / (renormalize ? chosen : all);
}

Routes routes_of(const std::vector<float>& logits, int64_t rows, int64_t num_experts, int64_t top_k, bool renormalize) {
  const size_t total = static_cast<size_t>(rows * top_k);
  Routes routes{std::vector<int32_t>(total), std::vector<float>(total), std::vector<int64_t>(total),
                std::vector<int64_t>(static_cast<size_t>(num_experts + 1), 0)};
  for (int64_t row = 0; row < rows; ++row) {
    choose(logits.data() + row * num_experts, num_experts, top_k, renormalize, routes.experts.data() + row * top_k,
           routes.shares.data() + row * top_k);
  }
  for (int32_t expert : routes.experts) ++routes.first[static_cast<size_t>(expert) + 1];
  std::partial_sum(routes.first.begin(), routes.first.end(), routes.first.begin());
  std::vector<int64_t> next(routes.first.begin(), routes.first.end() - 1);
  for (size_t i = 0; i < total; ++i) routes.places[i] = next[static_cast<size_t>(routes.experts[i])]++;
  return routes;
}

int64_t whole_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

bool ExpertsOp::run(const Run& run) const {
  static thread_local LargeArray memory;
  const int64_t num_experts = static_cast<int64_t>(gate_up.size()), inner = gate_up[0].n / 2, total = run.rows * top_k;
  const int64_t item = dtype == DType::f32 ? 4 : 2;
  std::vector<float> logits(static_cast<size_t>(run.rows * num_experts));
  kernels().widen({router_dtype, {logits.data(), num_experts}, run(router), run.rows, num_experts});
  const Routes routes = routes_of(logits, run.rows, num_experts, top_k, renormalize);

  const int64_t rows_bytes = whole_lines(total * size * item), middle_bytes = whole_lines(total * inner * item);
  char* sorted = memory.get(static_cast<size_t>(rows_bytes + middle_bytes + total * size * 4));
  char *middle = sorted + rows_bytes, *summands = middle + middle_bytes;
  for (int64_t i = 0; i < total; ++i) {
    const char* row = run.at(x) + i / top_k * x.stride * item;
    std::memcpy(sorted + routes.places[static_cast<size_t>(i)] * size * item, row, static_cast<size_t>(size * item));
  }
  for (size_t e = 0; e < gate_up.size(); ++e) {
    const int64_t from = routes.first[e], rows = routes.first[e + 1] - from;
    if (rows == 0) continue;
    const Rows inputs{sorted + from * size * item, size}, gated{middle + from * inner * item, inner};
    kernels().linear({dtype, gate, 1.0f, gated, inputs, rows, gate_up[e], nullptr});
    kernels().linear({dtype, Epilogue::wide, 1.0f, {summands + from * size * 4, size}, gated, rows, down[e], nullptr});
  }
  kernels().combine({dtype, run(out), reinterpret_cast<const float*>(summands), routes.shares.data(), routes.places.data(), run.rows,
                     top_k, size});
  return true;
}

}  // namespace octavo
