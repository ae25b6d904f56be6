// How a product is shared out.
//
// Panels of a weight are dealt to the threads, each for a block of rows of x. An output element is one sum over k in an order
// that neither the number of rows nor the number of threads changes.
#pragma once

#include "linear/epilogue.h"
#include "rows/norm.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kBlockBytes = 800 << 10;  // of rows of x worked on together, so that they stay in the cache
constexpr int64_t kSharedWork = 1 << 16;    // multiply-adds below which one thread is faster than two

// What it costs to bring a number of x into a kernel's order, and to norm it, in copied ones.
inline int64_t cost_of_row(const LinearArgs& a, int64_t depth) {
  constexpr int64_t kQuantizing = 8, kNorming = 2;
  return ((a.weight.integer ? kQuantizing : 1) + (a.norm ? kNorming : 0)) * depth;
}

// x as the kernel reads it, group by group: its own rows, or copies in the kernel's order in memory of the calling thread.
template <typename Kernel, typename T>
class Groups {
 public:
  Groups(const LinearArgs& a, int64_t depth)
      : x_(static_cast<const T*>(a.x.data)), stride_(a.x.stride), bytes_(Kernel::group_bytes(depth)) {
    if constexpr (Kernel::kTakesRows) taken_ = a.weight.k == depth ? a.rows / Kernel::kRows : 0;
    const int64_t taken = taken_ * Kernel::kRows, others = a.rows - taken;
    char* to = static_cast<char*>(shared_scratch(static_cast<size_t>((others + Kernel::kRows - 1) / Kernel::kRows * bytes_)));
    const int64_t first = a.norm ? 0 : taken;
    parallel_rows(a.rows - first, cost_of_row(a, depth), [&](int64_t i) {
      const int64_t row = first + i, prepared = row - taken;
      if (prepared < 0) return norm_row_at<T>(*a.norm, row);
      char* group = to + prepared / Kernel::kRows * bytes_;
      Kernel::expect(group, prepared % Kernel::kRows, depth);
      if (a.norm) norm_row_at<T>(*a.norm, row);
      Kernel::prepare(group, prepared % Kernel::kRows, x_ + row * stride_, a.weight.k, depth);
    });
    prepared_ = to;
  }

  // A number that no other product has.
  int64_t call() const { return call_; }

  auto at(int64_t group) const {
    if constexpr (Kernel::kTakesRows) {
      if (group < taken_) return Kernel::taken(x_ + group * Kernel::kRows * stride_, stride_);
      return Kernel::prepared(prepared_ + (group - taken_) * bytes_);
    } else {
      return prepared_ + group * bytes_;
    }
  }

 private:
  const T* const x_;
  const int64_t stride_, bytes_;
  const int64_t call_ = unique_number();
  int64_t taken_ = 0;
  const char* prepared_;
};

// Groups that a thread works on together.
struct Block {
  int64_t first_group, first_row, rows;
};

// How many blocks the rows are cut into. Many rows are dealt out to the threads, which then find what they wrote in their own
// caches; of few rows each takes all, and a part of the weight.
template <typename Kernel>
int64_t count_blocks(int64_t groups, int64_t depth) {
  const int64_t threads = num_threads(), wanted = (groups * Kernel::group_bytes(depth) + kBlockBytes - 1) / kBlockBytes;
  const int64_t blocks = wanted < groups ? wanted : groups;
  return groups * Kernel::kRows < threads * Kernel::kOwnRows ? blocks : (blocks + threads - 1) / threads * threads;
}

// Many, so that others can help a thread that is held up; but to begin a task takes a fifth as long as a panel's product with a
// group of rows. `products` of them are to be made.
inline int64_t tasks_per_thread(int64_t products) {
  constexpr int64_t kLeast = 3, kMost = 16, kWorthBeginning = 24;
  const int64_t tasks = products / num_threads() / kWorthBeginning;
  return tasks < kLeast ? kLeast : tasks > kMost ? kMost : tasks;
}

// Product<Kernel, T>: what is done with a panel and a block of rows of x, of type T.
template <template <typename, typename> class Product, typename Kernel, typename T>
void multiply(const LinearArgs& a) {
  const int64_t depth = padded(a.weight.k), panels = a.num_panels < 0 ? padded(a.weight.n) / kPanel - a.first_panel : a.num_panels;
  if (a.rows == 0 || panels == 0) return;
  const int64_t groups = (a.rows + Kernel::kRows - 1) / Kernel::kRows;
  const int64_t blocks = count_blocks<Kernel>(groups, depth);
  const int64_t wanted = (num_threads() * tasks_per_thread(panels * groups) + blocks - 1) / blocks;
  const int64_t runs = panels < wanted ? panels : wanted;
  const Groups<Kernel, T> x(a, depth);
  parallel_for(blocks * runs, a.rows * panels * kPanel * a.weight.k > kSharedWork, [&](int64_t task) {
    const int64_t block = task / runs, first = groups * block / blocks, end = groups * (block + 1) / blocks;
    const int64_t row = first * Kernel::kRows, rows = (end < groups ? end * Kernel::kRows : a.rows) - row;
    Product<Kernel, T> product(a, x, {first, row, rows});
    Kernel::begin();
    const int64_t run = task % runs, last = panels * (run + 1) / runs;
    for (int64_t panel = panels * run / runs; panel < last; ++panel) product(a.first_panel + panel);
    Kernel::end();
  });
}

}  // namespace octavo::OCTAVO_ISA
