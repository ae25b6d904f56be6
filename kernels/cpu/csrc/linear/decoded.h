// Weights that are decoded on the way to a kernel, into the values it multiplies with.
//
// A decoder is a class like this:
//
//   using Value                     what comes out, in the order of linear/layout.h
//   kUnit                           values that are decoded at once
//   Decoder(weight, depth)
//   open(panel, k)                  from here on
//   decode(unit, units, to)         so many units from the opened place on, where they belong in the blocks from `to` on
//   finish(k, to)                   all up to k are decoded: whatever is left to do about them
#pragma once

#include "linear/layout.h"
#include "base/kernels.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kBlockValues = kBlock * kPanel;

// A panel for one pass, block by block; a block stays in the first-level cache until it is used.
template <typename Decoder>
class DecodedBlocks {
 public:
  using Value = typename Decoder::Value;
  static constexpr bool kBusy = false;

  DecodedBlocks(const Weight& weight, int64_t panel, int64_t depth) : decoder_(weight, depth) { decoder_.open(panel, 0); }

  // The block from k on, k's in order; valid until the call after the next.
  OCTAVO_INLINE const Value* at(int64_t k) {
    constexpr int64_t kUnits = kBlockValues / Decoder::kUnit;
    // As if all blocks before lay in front of it.
    Value* to = buffer_[k / kBlock % 2] - k * kPanel;
    decoder_.decode(k / kBlock * kUnits, kUnits, to);
    decoder_.finish(k + kBlock, to);
    return buffer_[k / kBlock % 2];
  }
  void work() const {}

 private:
  Decoder decoder_;
  alignas(64) Value buffer_[2][kBlockValues];
};

}  // namespace octavo::OCTAVO_ISA
