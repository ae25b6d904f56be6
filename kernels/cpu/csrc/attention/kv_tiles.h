// The KV cache as matrix tiles.
//
// Where attention runs on tiles, every head's part of a cache block holds them as they are loaded, so that a step neither
// transposes keys nor interleaves values:
//
//   keys    [block_size / 16][D / 32][16 pairs of numbers][16 keys][2]
//   values  [block_size / 32][D / 16][16 pairs of keys][16 numbers][2]
//
// A chunk of 32 keys or values takes the same bytes as in rows [block_size, D].
#pragma once

#include "base/kernels.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

// Whether this instruction set keeps such a cache in tiles. Arguments of the write and of attention say the same.
template <typename Args>
bool in_tiles(const Args& a) {
#if defined(OCTAVO_AMX)
  return a.dtype == DType::bf16 && a.cache_dtype == DType::bf16 && a.head_dim % 32 == 0 && a.block_size % 32 == 0 &&
         a.k_cache_stride[2] == a.head_dim && a.v_cache_stride[2] == a.head_dim;
#else
  (void)a;
  return false;
#endif
}

#if defined(OCTAVO_AMX)

constexpr int64_t kStep = 32;       // numbers that one tile product multiplies per element
constexpr int64_t kTileSide = 16;   // rows of a tile; pairs of bf16, or floats, in a row of it
constexpr int64_t kTileSize = 512;  // bf16 in a tile

// The first of the tiles of 16 keys, or 32 values, in which place `offset` of a head's block lies.
OCTAVO_INLINE bf16* key_tiles_of(bf16* head, int64_t offset, int64_t head_dim) {
  return head + offset / kTileSide * kTileSide * head_dim;
}
OCTAVO_INLINE bf16* value_tiles_of(bf16* head, int64_t offset, int64_t head_dim) { return head + offset / kStep * kStep * head_dim; }

// Asks for the lines that the two below write to. A key has two numbers on each: stores wait for them one after the other.
OCTAVO_INLINE void expect_key(bf16* head, int64_t offset, int64_t head_dim) {
  const bf16* tiles = key_tiles_of(head, offset, head_dim);
  for (int64_t i = 0; i < kTileSide * head_dim; i += kStep) prefetch_to_write(tiles + i);
}
OCTAVO_INLINE void expect_value(bf16* head, int64_t offset, int64_t head_dim) {
  const bf16* tiles = value_tiles_of(head, offset, head_dim) + offset % kStep / 2 * kStep;
  for (int64_t d = 0; d < head_dim; d += kTileSide, tiles += kTileSize) prefetch_to_write(tiles);
}

// A key -> place `offset` of a head's block.
OCTAVO_INLINE void write_key(bf16* head, int64_t offset, const bf16* key, int64_t head_dim) {
  bf16* to = key_tiles_of(head, offset, head_dim) + offset % kTileSide * 2;
  const __m512i rows = _mm512_slli_epi32(reinterpret_cast<__m512i>(lane_numbers()), 4);
  for (int64_t d = 0; d < head_dim; d += kStep, to += kTileSize) _mm512_i32scatter_epi32(to, rows, _mm512_loadu_si512(key + d), 4);
}

// A value -> place `offset` of a head's block.
OCTAVO_INLINE void write_value(bf16* head, int64_t offset, const bf16* value, int64_t head_dim) {
  bf16* to = value_tiles_of(head, offset, head_dim) + offset % kStep / 2 * kStep;
  const bool second = offset % 2;
  const __mmask32 mine = second ? 0xaaaaaaaa : 0x55555555;
  for (int64_t d = 0; d < head_dim; d += kTileSide, to += kTileSize) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(value + d)));
    _mm512_mask_storeu_epi16(to, mine, second ? _mm512_slli_epi32(wide, 16) : wide);
  }
}

// A chunk's values from place `from` to `to` - 1, zeros in the others' stead.
inline void copy_values(const bf16* chunk, int64_t from, int64_t to, int64_t head_dim, bf16* out) {
  for (int64_t pair = 0; pair < kTileSide; ++pair) {
    const __mmask32 first = 2 * pair >= from && 2 * pair < to ? 0x55555555 : 0;
    const __mmask32 second = 2 * pair + 1 >= from && 2 * pair + 1 < to ? 0xaaaaaaaa : 0;
    for (int64_t i = pair * kStep; i < kStep * head_dim; i += kTileSize) {
      _mm512_storeu_si512(out + i, _mm512_maskz_loadu_epi16(first | second, chunk + i));
    }
  }
}

#endif

}  // namespace octavo::OCTAVO_ISA
