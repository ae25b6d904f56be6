// The numbers of a head, a chunk at a time, and their copies as floats.
#pragma once

#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int kChunk = 16;  // numbers that a kernel's innermost loop takes at once
constexpr int kChunkVecs = kChunk / kLanes;

constexpr int64_t whole_chunks(int64_t numbers) { return (numbers + kChunk - 1) / kChunk * kChunk; }

// Asks for the lines of some numbers of the cache.
template <typename C>
OCTAVO_INLINE void prefetch_numbers(const C* from, int64_t numbers) {
  constexpr int64_t kLine = 64 / sizeof(C);
  for (int64_t d = 0; d < numbers; d += kLine) __builtin_prefetch(from + d);
}

// A row of numbers -> floats in whole chunks, zeros past the end.
template <typename C>
void widen_row(const C* from, float* to, int64_t numbers) {
  int64_t d = 0;
  for (; d + kLanes <= numbers; d += kLanes) store(to + d, load(from + d));
  for (; d < numbers; ++d) to[d] = to_float(from[d]);
  for (; d < whole_chunks(numbers); ++d) to[d] = 0.0f;
}

}  // namespace octavo::OCTAVO_ISA
