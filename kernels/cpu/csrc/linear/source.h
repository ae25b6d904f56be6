// Where a kernel gets a dense weight's blocks from: 32 k of a panel's 32 columns at a time, in order. Once for each block it calls
// `work`, in the midst of its products, where other work costs least.
#pragma once

#include "linear/layout.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

// A panel as it lies in memory, which is asked for some way ahead, `Depth` k at a time.
template <typename T, int64_t Depth = kBlock>
class DenseBlocks {
 public:
  static constexpr bool kBusy = false;  // whether `work` does anything

  explicit DenseBlocks(const void* data) : data_(static_cast<const T*>(data)) {}

  // The block from k on; valid until the next call.
  OCTAVO_INLINE const T* at(int64_t k) const {
    const T* block = data_ + k * kPanel;
    prefetch_lines(reinterpret_cast<const char*>(block) + kPrefetchBytes, Depth * kPanel * static_cast<int64_t>(sizeof(T)));
    return block;
  }
  void work() const {}

 private:
  const T* const data_;
};

}  // namespace octavo::OCTAVO_ISA
