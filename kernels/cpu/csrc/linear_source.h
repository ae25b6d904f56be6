// Where a kernel gets a dense weight's blocks from: 32 k of a panel's 32 columns at a time, in order.
#pragma once

#include "linear_layout.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

// What to ask memory for while a panel is worked on: so many bytes a block, from an address on.
struct Ahead {
  const char* from;
  int64_t bytes_per_block;  // a multiple of a line's 64
};

// A panel as it lies in memory.
template <typename T>
class DenseBlocks {
 public:
  // `data` is the block from `first` on.
  DenseBlocks(const void* data, int64_t first, Ahead ahead) : data_(static_cast<const T*>(data)), first_(first), ahead_(ahead) {}

  // The block from k >= first on; valid until the next call.
  OCTAVO_INLINE const T* at(int64_t k) const {
    k -= first_;
    prefetch_lines(ahead_.from + k / kBlock * ahead_.bytes_per_block, ahead_.bytes_per_block);
    return data_ + k * kPanel;
  }

 private:
  const T* const data_;
  const int64_t first_;
  const Ahead ahead_;
};

}  // namespace octavo::OCTAVO_ISA
