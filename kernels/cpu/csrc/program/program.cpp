#include "program/program.h"

#include <algorithm>
#include <chrono>

namespace octavo {

int64_t Program::add_buffer(int64_t row_bytes) {
  buffers_.push_back({row_bytes, std::make_unique<LargeArray>()});
  return static_cast<int64_t>(buffers_.size()) - 1;
}

int64_t Program::add_outside_buffer() {
  buffers_.push_back({-1, nullptr});
  return static_cast<int64_t>(buffers_.size()) - 1;
}

void Program::add_op(std::unique_ptr<Op> op, const std::string& label) {
  const auto known = std::find(labels_.begin(), labels_.end(), label);
  op->label = static_cast<size_t>(known - labels_.begin());
  if (known == labels_.end()) {
    labels_.push_back(label);
    seconds_.push_back(0.0);
  }
  ops_.push_back(std::move(op));
}

int64_t Program::run(int64_t rows, const std::vector<void*>& outside, const Step& step) {
  find_memory(rows, outside);
  fresh_.forget();
  const Run run{step, rows, addresses_, fresh_};
  for (size_t i = 0; i < ops_.size(); ++i) {
    const bool inside = profiling_ ? timed(*ops_[i], run) : ops_[i]->run(run);
    if (!inside) return static_cast<int64_t>(i);
  }
  return -1;
}

void Program::find_memory(int64_t rows, const std::vector<void*>& outside) {
  addresses_.resize(buffers_.size());
  auto given = outside.begin();
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const Buffer& buffer = buffers_[i];
    addresses_[i] = buffer.memory ? buffer.memory->get(static_cast<size_t>(rows * buffer.row_bytes)) : static_cast<char*>(*given++);
  }
}

bool Program::timed(const Op& op, const Run& run) {
  const auto start = std::chrono::steady_clock::now();
  const bool inside = op.run(run);
  seconds_[op.label] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return inside;
}

std::vector<std::pair<std::string, double>> Program::take_timings() {
  std::vector<std::pair<std::string, double>> named;
  for (size_t i = 0; i < labels_.size(); ++i) named.emplace_back(labels_[i], std::exchange(seconds_[i], 0.0));
  return named;
}

}  // namespace octavo
