// How weights in 8 bits are packed, and how numbers get into 8 bits.
//
// A row (of a weight or of x) becomes integers of -127 .. 127 and one scale, its largest magnitude / 127. A weight [N, K]
// is packed into panels of 32 columns. A panel starts with its columns' scales and sums (`PanelHead`); then come blocks of
// 64 k, [K / 64][2][16 quads][16][4]: halves of 16 columns, in which the values of four successive k lie side by side, so
// that half a block (1 KB) is a matrix tile. What pads is zero.
#pragma once

#include <limits>

#include "linear_layout.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int kQuad = 4;                              // k that lie side by side
constexpr int kByteBlock = 64;                        // k of a block
constexpr int kByteHalfBlock = kHalf * kByteBlock;    // bytes
constexpr float kSmallestBound = 1e-30f;              // rows of less than this become zeros; its inverse is finite

// Of each column: its scale, and -128 times its sum, which is what 128 more in each value of x adds, taken away again.
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

struct RowScale {
  float scale, inverse;
};

// The scale of a row that holds a NaN or infinity is NaN, and so is every product of it.
template <typename T>
RowScale scale_of(const T* x, int64_t k) {
  // Magnitudes compare as integers do, NaN above all.
  IVec largest = {};
  const auto see = [&](Vec values) {
    const IVec magnitude = as_int(values) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  };
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) see(load(x + i));
  if (i < k) see(load_some(x + i, k - i));
  int32_t top = 0;
  for (int lane = 0; lane < kLanes; ++lane) top = largest[lane] > top ? largest[lane] : top;
  const float bound = from_bits(static_cast<uint32_t>(top));
  if (!(bound <= std::numeric_limits<float>::max())) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  const float safe = bound > kSmallestBound ? bound : kSmallestBound;
  return {safe / 127.0f, 127.0f / safe};
}

// Nearest integers, ties to even.
OCTAVO_INLINE IVec rounded(Vec x, float inverse) {
  const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
  return as_int(x * splat(inverse) + magic) - as_int(magic);
}

// store(i, integers of k = i, i + 1, ...) for i up to depth, a multiple of the lanes -> the scale.
template <typename T, typename Store>
float quantize(const T* x, int64_t k, int64_t depth, const Store& store) {
  const RowScale row = scale_of(x, k);
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) store(i, rounded(load(x + i), row.inverse));
  for (; i < depth; i += kLanes) store(i, i < k ? rounded(load_some(x + i, k - i), row.inverse) : IVec{});
  return row.scale;
}

// The low byte of each lane.
OCTAVO_INLINE void store_bytes(void* to, IVec x) {
#if defined(__AVX512F__)
  _mm_storeu_si128(static_cast<__m128i*>(to), _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(x)));
#else
  typedef int8_t ByteVec __attribute__((vector_size(kLanes)));
  const ByteVec bytes = __builtin_convertvector(x, ByteVec);
  std::memcpy(to, &bytes, sizeof bytes);
#endif
}

}  // namespace octavo::OCTAVO_ISA
