#include "program/fresh_pages.h"

#include <algorithm>
#include <utility>

#include "program/program.h"

namespace octavo {
namespace {

int64_t blocks_of(int64_t length) { return (length + kFreshBlock - 1) / kFreshBlock; }

}  // namespace

const FreshPages& FreshLayout::pages(const Step& step, int64_t rows) {
  if (std::exchange(known_, true)) return pages_;
  FreshPages& p = pages_;
  p.lengths.clear();
  p.max_blocks = 1;
  for (int64_t r = 0; r < step.num_requests; ++r) {
    p.lengths.push_back(step.query_starts[r + 1] - step.query_starts[r]);
    p.max_blocks = std::max(p.max_blocks, blocks_of(p.lengths.back()));
  }
  p.slots.assign(static_cast<size_t>(rows), -1);
  p.tables.assign(static_cast<size_t>(step.num_requests * p.max_blocks), 0);
  p.num_blocks = 0;
  for (int64_t r = 0; r < step.num_requests; ++r) {
    const int64_t first = p.num_blocks * kFreshBlock, length = p.lengths[static_cast<size_t>(r)];
    for (int64_t i = 0; i < length; ++i) p.slots[static_cast<size_t>(step.query_starts[r] + i)] = first + i;
    int32_t* table = p.tables.data() + r * p.max_blocks;
    for (int64_t b = 0; b < blocks_of(length); ++b) table[b] = static_cast<int32_t>(p.num_blocks++);
  }
  p.num_blocks = std::max<int64_t>(p.num_blocks, 1);
  return p;
}

const int64_t* FreshLayout::zeros(int64_t rows) {
  if (zeros_.size() < static_cast<size_t>(rows)) zeros_.resize(static_cast<size_t>(rows), 0);
  return zeros_.data();
}

}  // namespace octavo
