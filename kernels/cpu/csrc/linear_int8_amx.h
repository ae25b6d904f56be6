// The same with matrix tiles (AMX), up to 16 rows at a time.
#pragma once

#include "linear_amx.h"
#include "linear_int8.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

// What comes kPrefetchBytes later than a pair of tiles.
OCTAVO_INLINE void prefetch_tiles(const char* weights) {
#pragma GCC unroll 32
  for (int line = 0; line < 32; ++line) __builtin_prefetch(weights + kPrefetchBytes + line * 64);
}

struct ByteTileKernel {
  static constexpr int kRows = kTileRows;

  static constexpr bool kTakesRows = false;
  static constexpr int64_t group_bytes(int64_t depth) { return kGroupHeadBytes + kRows * byte_depth(depth); }
  static constexpr int64_t panel_bytes(int64_t depth) { return byte_panel_bytes(depth); }

  // A group lies as tiles, [depth / 64][16][64].
  template <typename X>
  static void prepare(char* group, int64_t row, const X* x, int64_t k, int64_t) {
    char* to = group + kGroupHeadBytes + row * kByteBlock;
    group_scales(group)[row] = quantize(x, k, [&](int64_t i, IVec values) {
      store_bytes(to + i / kByteBlock * kByteBlock * kTileRows + i % kByteBlock, values);
    });
  }

  static void begin() { AmxKernel::begin(); }
  static void end() { AmxKernel::end(); }

  // Rows past `rows` hold whatever x's memory does; nobody reads their sums.
  static void run(int rows, const char* x, const char* panel, int64_t depth, bool again, float* out) {
    alignas(64) int32_t sums[kRows * kPanel];
    const auto* head = reinterpret_cast<const PanelHead*>(panel);
    const char *values = x + kGroupHeadBytes, *weights = reinterpret_cast<const char*>(head + 1);
    if (again) {
      multiply<false>(values, weights, byte_depth(depth), sums);
    } else {
      multiply<true>(values, weights, byte_depth(depth), sums);
    }
    scale_sums(rows, sums, group_scales(x), *head, out);
  }

  // One tile of x by two of weights, as for bf16.
  template <bool FromMemory>
  static void multiply(const char* x, const char* weights, int64_t depth, int32_t* sums) {
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t k = 0; k < depth; k += kByteBlock) {
      const char* w = weights + k * kPanel;
      _tile_loadd(4, x + k * kTileRows, 64);
      _tile_loadd(6, w, 64);
      if constexpr (FromMemory) prefetch_tiles(w);
      _tile_dpbssd(0, 4, 6);
      _tile_loadd(6, w + kByteHalfBlock, 64);
      _tile_dpbssd(1, 4, 6);
    }
    _tile_stored(0, sums, kPanel * 4);
    _tile_stored(1, sums + kHalf, kPanel * 4);
  }
};

#endif

}  // namespace octavo::OCTAVO_ISA
