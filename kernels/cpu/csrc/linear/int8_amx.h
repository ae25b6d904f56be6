// Products of 8 bits with matrix tiles (AMX), up to 16 rows at a time.
#pragma once

#include "linear/amx.h"
#include "linear/int8.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

struct ByteTileKernel : KernelDefaults {
  static constexpr int kRows = kTileRows;
  static constexpr int64_t kOwnRows = 160;  // products of bytes take half as long as those of bf16, weights two thirds of the bytes
  static constexpr int64_t kDepth = kByteBlock;
  static constexpr int64_t group_bytes(int64_t depth) { return kGroupHeadBytes + kRows * byte_depth(depth); }
  static constexpr int64_t panel_bytes(int64_t depth) { return byte_panel_bytes(depth); }

  // A group lies as tiles, [depth / 64][16][64]: a row's lines are far apart.
  static void expect(char* group, int64_t row, int64_t depth) {
    for (int64_t k = 0; k < depth; k += kByteBlock) prefetch_to_write(group + kGroupHeadBytes + row * kByteBlock + k * kTileRows);
  }
  template <typename X>
  static void prepare(char* group, int64_t row, const X* x, int64_t k, int64_t) {
    char* to = group + kGroupHeadBytes + row * kByteBlock;
    group_scales(group)[row] = quantize(x, k, [to](int64_t i, const ByteBlock& values) {
      std::memcpy(to + i * kTileRows, &values, sizeof values);
    });
  }

  static void begin() { AmxKernel::begin(); }
  static void end() { AmxKernel::end(); }

  static const float* row_scales(const char* group) { return group_scales(group); }

  // Integer sums of 16 rows. Rows past `rows` hold whatever x's memory does; nobody reads their sums.
  //
  // One tile of x by two of weights, as for bf16.
  template <typename Blocks>
  static void run(int, const char* x, Blocks& blocks, int64_t, Stretch stretch, float* sums) {
    const char* values = x + kGroupHeadBytes;
    if (stretch.from > 0) {
      _tile_loadd(0, sums, kPanel * 4);
      _tile_loadd(1, sums + kHalf, kPanel * 4);
    } else {
      _tile_zero(0);
      _tile_zero(1);
    }
    for (int64_t k = stretch.from; k < stretch.to; k += kByteBlock) {
      const int8_t* w = blocks.at(k);
      _tile_loadd(4, values + k * kTileRows, 64);
      _tile_loadd(6, w, 64);
      _tile_dpbssd(0, 4, 6);
      blocks.work();
      _tile_loadd(6, w + kByteHalfBlock, 64);
      _tile_dpbssd(1, 4, 6);
    }
    _tile_stored(0, sums, kPanel * 4);
    _tile_stored(1, sums + kHalf, kPanel * 4);
  }
};

#endif

}  // namespace octavo::OCTAVO_ISA
