// Where a kernel gets a dense weight's blocks from: 32 k of a panel's 32 columns at a time, in order.
#pragma once

#include "linear_layout.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

// A panel as it lies in memory. Unless this thread has just used it, what comes kPrefetchBytes later is asked for.
template <typename T, bool FromMemory>
class DenseBlocks {
 public:
  explicit DenseBlocks(const char* panel) : panel_(reinterpret_cast<const T*>(panel)) {}

  // The block from k on; valid until the next call.
  OCTAVO_INLINE const T* at(int64_t k) const {
    const T* block = panel_ + k * kPanel;
    if constexpr (FromMemory) {
#pragma GCC unroll 64
      for (size_t line = 0; line < kBlock * kPanel * sizeof(T) / 64; ++line) {
        __builtin_prefetch(reinterpret_cast<const char*>(block) + kPrefetchBytes + line * 64);
      }
    }
    return block;
  }

 private:
  const T* panel_;
};

}  // namespace octavo::OCTAVO_ISA
