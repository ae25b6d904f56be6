// The same for bf16 with matrix tiles (AMX): 32 rows at a time; a single row takes the same path, as it rounds otherwise.
#pragma once

#include "linear_dense.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

constexpr int kTileRows = 16;   // of x
constexpr int kTileDepth = 32;  // bf16 values in a tile's row

// Shapes of the processor's eight tile registers, in the layout that it reads.
struct __attribute__((packed, aligned(64))) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0-3 hold sums (two of rows by two of columns), 4 and 5 x, 6 and 7 weights.
inline void configure_tiles(int rows_above, int rows_below) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.row_bytes[tile] = 64;
  config.rows[0] = config.rows[1] = config.rows[4] = static_cast<uint8_t>(rows_above);
  config.rows[2] = config.rows[3] = config.rows[5] = static_cast<uint8_t>(rows_below);
  config.rows[6] = config.rows[7] = 16;
  _tile_loadconfig(&config);
}

OCTAVO_INLINE void prefetch_step(const bf16* weights) {
#pragma GCC unroll 32
  for (int line = 0; line < 32; ++line) _mm_prefetch(reinterpret_cast<const char*>(weights) + 4096 + line * 64, _MM_HINT_T0);
}

// Up to 16 rows.
inline void amx_panel_one(const bf16* x, int64_t stride, const bf16* weights, int64_t depth, float* out) {
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t k = 0; k < depth; k += kTileDepth) {
    const bf16* w = weights + k * kPanel;
    _tile_loadd(4, x + k, stride * 2);
    _tile_loadd(6, w, 128);
    _tile_loadd(7, w + 32, 128);
    prefetch_step(w);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_stored(0, out, kPanel * 4);
  _tile_stored(1, out + 16, kPanel * 4);
}

// 17 to 32 rows.
inline void amx_panel_two(const bf16* x, int64_t stride, const bf16* weights, int64_t depth, float* out) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const bf16* below = x + kTileRows * stride;
  for (int64_t k = 0; k < depth; k += kTileDepth) {
    const bf16* w = weights + k * kPanel;
    _tile_loadd(4, x + k, stride * 2);
    _tile_loadd(6, w, 128);
    _tile_loadd(7, w + 32, 128);
    _tile_loadd(5, below + k, stride * 2);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, out, kPanel * 4);
  _tile_stored(1, out + 16, kPanel * 4);
  _tile_stored(2, out + kTileRows * kPanel, kPanel * 4);
  _tile_stored(3, out + kTileRows * kPanel + 16, kPanel * 4);
}

struct AmxKernel {
  using Input = bf16;
  static constexpr int kRows = 2 * kTileRows;

  static void begin() { configure_tiles(kTileRows, kTileRows); }
  static void end() { _tile_release(); }

  // Between begin and end tiles are full but for the rows left over, whose shape holds for one panel.
  static void run(int rows, const bf16* x, int64_t stride, const bf16* weights, int64_t depth, float* out) {
    if (rows == kRows) return amx_panel_two(x, stride, weights, depth, out);
    if (rows == kTileRows) return amx_panel_one(x, stride, weights, depth, out);
    configure_tiles(rows < kTileRows ? rows : kTileRows, rows > kTileRows ? rows - kTileRows : kTileRows);
    if (rows > kTileRows) {
      amx_panel_two(x, stride, weights, depth, out);
    } else {
      amx_panel_one(x, stride, weights, depth, out);
    }
    configure_tiles(kTileRows, kTileRows);
  }
};

#endif

}  // namespace octavo::OCTAVO_ISA
