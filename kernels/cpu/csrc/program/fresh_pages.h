// Where a step's own keys and values lie when no cache keeps them: pages of its own, laid out once for all layers of a run.
#pragma once

#include <cstdint>
#include <vector>

namespace octavo {

struct Step;

constexpr int64_t kFreshBlock = 32;  // tokens in a page

struct FreshPages {
  std::vector<int64_t> slots;    // of each token
  std::vector<int32_t> lengths;  // of each request
  std::vector<int32_t> tables;   // of each request max_blocks pages
  int64_t num_blocks = 0, max_blocks = 0;
};

// Makes the pages when an op of a run first asks for them. Memory is kept from run to run.
class FreshLayout {
 public:
  // A new run begins.
  void forget() { known_ = false; }

  const FreshPages& pages(const Step& step, int64_t rows);

  // So many positions for keys that are not rotated.
  const int64_t* zeros(int64_t rows);

 private:
  FreshPages pages_;
  std::vector<int64_t> zeros_;
  bool known_ = false;
};

}  // namespace octavo
