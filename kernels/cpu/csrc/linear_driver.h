// How a product is shared out.
//
// Panels of a weight are dealt to the threads; each is read from memory once for all rows of x. An output element is one
// sum over k in an order that neither the number of rows nor the number of threads changes.
#pragma once

#include "linear_epilogue.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kRowBlock = 256;        // rows of x worked on together, so that they stay in the cache
constexpr int64_t kSharedWork = 1 << 16;  // multiply-adds below which one thread is faster than two
constexpr int64_t kRunsPerThread = 16;
constexpr int64_t kQuantizing = 8;        // what it costs to make a number of x an integer, in copied ones

// Rows of x in the kernel's own order, in memory of the calling thread.
template <typename Kernel, typename T>
const char* prepare(const LinearArgs& a, int64_t first, int64_t rows, int64_t depth) {
  const int64_t groups = (rows + Kernel::kRows - 1) / Kernel::kRows, bytes = Kernel::group_bytes(depth);
  char* to = static_cast<char*>(shared_scratch(static_cast<size_t>(groups * bytes)));
  const T* x = static_cast<const T*>(a.x.data) + first * a.x.stride;
  const bool copied = a.weight.format == Format::dense || a.weight.format == Format::compact;
  parallel_rows(rows, copied ? depth : kQuantizing * depth, [&](int64_t row) {
    Kernel::prepare(to + row / Kernel::kRows * bytes, row % Kernel::kRows, x + row * a.x.stride, a.weight.k, depth);
  });
  return to;
}

// Product<Kernel, T>: what is done with a panel and some rows of x, of type T.
template <template <typename, typename> class Product, typename Kernel, typename T>
void multiply(const LinearArgs& a) {
  const int64_t depth = padded(a.weight.k), panels = padded(a.weight.n) / kPanel;
  const int64_t wanted = num_threads() * kRunsPerThread, run = panels > wanted ? panels / wanted : 1;
  for (int64_t first = 0; first < a.rows; first += kRowBlock) {
    const int64_t rows = a.rows - first < kRowBlock ? a.rows - first : kRowBlock;
    const Product<Kernel, T> product(a, prepare<Kernel, T>(a, first, rows, depth), first, rows);
    parallel_for((panels + run - 1) / run, rows * a.weight.n * a.weight.k > kSharedWork, [&](int64_t task) {
      Kernel::begin();
      for (int64_t panel = task * run; panel < (task + 1) * run && panel < panels; ++panel) {
        product(panel);
      }
      Kernel::end();
    });
  }
}

}  // namespace octavo::OCTAVO_ISA
