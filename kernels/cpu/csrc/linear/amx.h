// Products of bf16 with matrix tiles (AMX): up to 16 rows at a time, a single one too: other instructions round otherwise.
#pragma once

#include "base/tile_config.h"
#include "linear/dense.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

constexpr int kTileRows = 16;  // of x

struct AmxKernel : KernelDefaults {
  static constexpr int kRows = kTileRows;
  static constexpr bool kPairs = true, kTakesRows = true;

  // 16 rows of x, tile by tile of 32 k.
  struct Group {
    const bf16* first;
    int64_t step;          // between one k and the next, of tiles
    int64_t stride_bytes;  // between rows

    OCTAVO_INLINE const bf16* at(int64_t k) const { return first + k * step; }
  };
  static Group taken(const bf16* rows, int64_t stride) { return {rows, 1, stride * 2}; }
  static Group prepared(const char* group) { return {reinterpret_cast<const bf16*>(group), kTileRows, kBlock * 2}; }

  static constexpr int64_t kDepth = kBlock;
  static constexpr int64_t group_bytes(int64_t depth) { return kRows * depth * 2; }
  static constexpr int64_t panel_bytes(int64_t depth) { return kPanel * depth * 2; }

  // Rows that cannot be taken as they are become tiles, [depth / 32][16][32].
  static void prepare(char* group, int64_t row, const bf16* x, int64_t k, int64_t depth) {
    bf16* to = reinterpret_cast<bf16*>(group) + row * kBlock;
    int64_t i = 0;
    for (; i + kBlock <= k; i += kBlock) std::memcpy(to + i * kTileRows, x + i, kBlock * sizeof(bf16));
    if (i < depth) {
      std::memset(static_cast<void*>(to + i * kTileRows), 0, kBlock * sizeof(bf16));
      std::memcpy(to + i * kTileRows, x + i, (k - i) * sizeof(bf16));
    }
  }

  static void begin() {
    const TileConfig config;
    _tile_loadconfig(&config);
  }
  static void end() { _tile_release(); }

  // Sums of 16 rows in tiles 0 and 1. Rows past `rows` hold whatever x's memory does; nobody reads their sums.
  //
  // One tile of x by two of weights, these in turns through one register: fewer loads a product were possible, but there are
  // few physical registers behind the eight, and the more of those hold something, the longer a load waits for a free one.
  template <typename Blocks>
  static void run(int, const Group& x, Blocks& blocks, int64_t, Stretch stretch, float* out) {
    if (stretch.from > 0) {
      _tile_loadd(0, out, kPanel * 4);
      _tile_loadd(1, out + kHalf, kPanel * 4);
    } else {
      _tile_zero(0);
      _tile_zero(1);
    }
    for (int64_t k = stretch.from; k < stretch.to; k += kBlock) {
      const bf16* w = blocks.at(k);
      _tile_loadd(4, x.at(k), x.stride_bytes);
      _tile_loadd(6, w, 64);
      _tile_dpbf16ps(0, 4, 6);
      blocks.work();
      _tile_loadd(6, w + kHalfBlock, 64);
      _tile_dpbf16ps(1, 4, 6);
    }
    _tile_stored(0, out, kPanel * 4);
    _tile_stored(1, out + kHalf, kPanel * 4);
  }

  // Two groups in one pass over a panel that comes from memory, which takes longer than the stalls of two more registers. The
  // second group's sums follow.
  template <typename Blocks>
  static void run_pair(const Group& above, const Group& below, Blocks& blocks, int64_t depth, float* out) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < depth; k += kBlock) {
      const bf16* w = blocks.at(k);
      _tile_loadd(4, above.at(k), above.stride_bytes);
      _tile_loadd(6, w, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(6, w + kHalfBlock, 64);
      _tile_dpbf16ps(1, 4, 6);
      _tile_loadd(4, below.at(k), below.stride_bytes);
      _tile_dpbf16ps(3, 4, 6);
      _tile_loadd(6, w, 64);
      _tile_dpbf16ps(2, 4, 6);
    }
    _tile_stored(0, out, kPanel * 4);
    _tile_stored(1, out + kHalf, kPanel * 4);
    _tile_stored(2, out + kTileRows * kPanel, kPanel * 4);
    _tile_stored(3, out + kTileRows * kPanel + kHalf, kPanel * 4);
  }
};

#endif

}  // namespace octavo::OCTAVO_ISA
