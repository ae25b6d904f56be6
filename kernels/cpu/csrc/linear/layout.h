// How dense weights are packed.
//
// A weight [N, K] is packed once into panels of 32 columns (rows of the weight), padded with zeros to multiples of 32 both
// ways: [N / 32][K][32]. For bf16 a panel is cut into blocks of 32 k, a block into halves of 16 columns, and in a half the
// values of two successive k lie side by side, [N / 32][K / 32][2][16 pairs][16][2], so that half a block (1 KB) is
// a matrix tile of the processors that have them. A panel is read front to back once for every few rows of x.
//
// Of a gated weight a panel holds 16 gates and the 16 ups that belong to them.
#pragma once

#include <cstdint>

#include "base/kernels.h"

namespace octavo::OCTAVO_ISA {

constexpr int kPanel = 32;                // columns of a panel
constexpr int kHalf = 16;                 // columns of half a panel
constexpr int kBlock = 32;                // k of a block
constexpr int kHalfBlock = kHalf * kBlock;
constexpr int kPrefetchBytes = 8192;      // how far ahead of its use a weight is asked for: memory's latency times its speed

constexpr int64_t padded(int64_t size) { return (size + 31) / 32 * 32; }

// Successive k that lie side by side.
template <typename T>
constexpr int64_t kInterleaved = 1;
template <>
inline constexpr int64_t kInterleaved<bf16> = 2;

// Where the columns of k lie in their block, k < kBlock a multiple of the step.
template <typename T>
constexpr int64_t step_offset(int64_t k) {
  return k * (kInterleaved<T> == 1 ? kPanel : kHalf);
}

// The weight's row that packed column n holds, -1 for padding.
inline int64_t row_of_column(const PackArgs& a, int64_t n) {
  if (!a.gated) return n < a.n ? n : -1;
  const int64_t gate = n / kPanel * kHalf + n % kHalf;
  return gate >= a.n / 2 ? -1 : n % kPanel < kHalf ? gate : a.n / 2 + gate;
}

// Where packed column n and k lie.
template <typename T>
constexpr int64_t packed_index(int64_t n, int64_t k, int64_t depth) {
  const int64_t panel = n / kPanel * depth * kPanel, column = n % kPanel;
  if (kInterleaved<T> == 1) return panel + k * kPanel + column;
  return panel + k / kBlock * kBlock * kPanel + column / kHalf * kHalfBlock + k % kBlock / 2 * 2 * kHalf + column % kHalf * 2 + k % 2;
}

}  // namespace octavo::OCTAVO_ISA
