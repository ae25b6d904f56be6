// How weights in 8 bits are packed, and how numbers get into 8 bits.
//
// A row (of a weight or of x) is mixed, so that an outlier is shared by 16 values, then becomes integers of -127 .. 127 and
// one scale, its largest magnitude / 127. A weight [N, K]
// is packed into panels of 32 columns. A panel starts with its columns' scales and sums (`PanelHead`); then come blocks of
// 64 k, [K / 64][2][16 quads][16][4]: halves of 16 columns, in which the values of four successive k lie side by side, so
// that half a block (1 KB) is a matrix tile. What pads is zero.
#pragma once

#include <limits>

#include "linear/layout.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int kQuad = 4;                              // k that lie side by side
constexpr int kByteBlock = 64;                        // k of a block
constexpr int kByteHalfBlock = kHalf * kByteBlock;    // bytes
constexpr int kByteVecs = kByteBlock / kLanes;        // vectors of floats in a block
constexpr float kSmallestBound = 1e-30f;              // rows of less than this become zeros; its inverse is finite

// Of each column: its scale / 16, as `mix` asks for, and -128 times its sum, which is what 128 more in each value of x adds, taken away again.
struct PanelHead {
  float scales[kPanel];
  int32_t starts[kPanel];
};

constexpr int64_t byte_depth(int64_t k) { return (k + kByteBlock - 1) / kByteBlock * kByteBlock; }

constexpr int64_t byte_panel_bytes(int64_t k) { return static_cast<int64_t>(sizeof(PanelHead)) + byte_depth(k) * kPanel; }

// Where packed column n and k lie, k a multiple of kQuad.
constexpr int64_t byte_index(int64_t n, int64_t k, int64_t depth) {
  return n / kPanel * byte_panel_bytes(depth) + static_cast<int64_t>(sizeof(PanelHead)) + k / kByteBlock * 2 * kByteHalfBlock +
         n % kPanel / kHalf * kByteHalfBlock + k % kByteBlock / kQuad * kHalf * kQuad + n % kHalf * kQuad;
}

// v plus and minus the lanes `Stride` away, of the two whichever is first plus the other in its place.
template <int Stride>
OCTAVO_INLINE Vec butterfly(Vec v) {
#if defined(__AVX512F__)
  const Vec other = _mm512_shuffle_f32x4(v, v, Stride == 4 ? _MM_SHUFFLE(2, 3, 0, 1) : _MM_SHUFFLE(1, 0, 3, 2));
#elif defined(__AVX2__)
  const Vec other = _mm256_permute2f128_ps(v, v, 1);
#else
  const Vec other = v;  // never asked for
#endif
  const Vec signs = (lane_numbers() & Stride) != 0 ? splat(-1.0f) : splat(1.0f);
  return fmadd(v, signs, other);  // exact but for the sum's rounding
}

// Multiply a block of 64 values by a Hadamard matrix in place: each 16 of them that lie 4 apart become their 16 sums with
// all patterns of signs. Twice gives 16 times the block, so products of mixed rows are 16 times the rows' products.
OCTAVO_INLINE void mix(Vec v[kByteVecs]) {
#pragma GCC unroll 16
  for (int i = 0; i < kByteVecs; ++i) {
    if (kLanes > 4) v[i] = butterfly<4>(v[i]);
    if (kLanes > 8) v[i] = butterfly<8>(v[i]);
  }
#pragma GCC unroll 4
  for (int apart = 1; apart < kByteVecs; apart *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kByteVecs; ++i) {
      if (i & apart) continue;
      const Vec a = v[i], b = v[i + apart];
      v[i] = a + b;
      v[i + apart] = a - b;
    }
  }
}

struct RowScale {
  float scale, inverse;
};

// The scale of a row by the largest of its magnitudes' bits: these compare as integers do, NaN above all. Of a row that holds a
// NaN or infinity the scale is NaN, and so is every product of it.
inline RowScale scale_of(IVec largest) {
  int32_t top = 0;
  for (int lane = 0; lane < kLanes; ++lane) top = largest[lane] > top ? largest[lane] : top;
  const float bound = from_bits(static_cast<uint32_t>(top));
  if (!(bound <= std::numeric_limits<float>::max())) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  const float safe = bound > kSmallestBound ? bound : kSmallestBound;
  return {safe / 127.0f, 127.0f / safe};
}

typedef int8_t ByteBlock __attribute__((vector_size(kByteBlock)));

// A block's nearest integers, ties to even.
OCTAVO_INLINE void round_block(const float* x, float inverse, ByteBlock& out) {
#if defined(__AVX512F__)
  __m512i v[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) v[i] = _mm512_cvtps_epi32(load(x + i * kLanes) * splat(inverse));
  // Packing takes 128 bits of each at a time.
  const __m512i mixed = _mm512_packs_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  out = reinterpret_cast<ByteBlock>(_mm512_permutexvar_epi32(order, mixed));
#else
  const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
  for (int i = 0; i < kByteBlock; i += kLanes) {
    const IVec rounded = as_int(load(x + i) * splat(inverse) + magic) - as_int(magic);
    for (int lane = 0; lane < kLanes; ++lane) out[i + lane] = static_cast<int8_t>(rounded[lane]);
  }
#endif
}

// Mix k values, then put(i, integers from i on) for each block of them, up to byte_depth(k) -> the scale. Uses the thread's
// scratch.
template <typename T, typename Put>
float quantize(const T* x, int64_t k, const Put& put) {
  const int64_t depth = byte_depth(k);
  float* mixed = static_cast<float*>(scratch(static_cast<size_t>(depth) * sizeof(float)));
  IVec largest = {};
  for (int64_t block = 0; block < depth; block += kByteBlock) {
    Vec v[kByteVecs];
#pragma GCC unroll 16
    for (int j = 0; j < kByteVecs; ++j) {
      const int64_t i = block + j * kLanes;
      v[j] = i + kLanes <= k ? load(x + i) : i < k ? load_some(x + i, k - i) : Vec{};
    }
    mix(v);
#pragma GCC unroll 16
    for (int j = 0; j < kByteVecs; ++j) {
      const IVec magnitude = as_int(v[j]) & 0x7fffffff;
      largest = magnitude > largest ? magnitude : largest;
      store(mixed + block + j * kLanes, v[j]);
    }
  }
  const RowScale row = scale_of(largest);
  for (int64_t block = 0; block < depth; block += kByteBlock) {
    ByteBlock integers;
    round_block(mixed + block, row.inverse, integers);
    put(block, integers);
  }
  return row.scale;
}

}  // namespace octavo::OCTAVO_ISA
