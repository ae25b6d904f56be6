// The numbers of a head, a chunk at a time: as many as a kernel widens from the cache with the fewest instructions.
//
// Where 16 bits are widened by exchanging them with zeros, a chunk's numbers come out in an order of their own. Queries are
// put in that order too and sums of values are put back, so nobody outside of the kernel sees it.
#pragma once

#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

#if defined(__AVX512F__)
constexpr int kChunkVecs = 1;
#else
constexpr int kChunkVecs = 2;
#endif
constexpr int kChunk = kChunkVecs * kLanes;

constexpr int64_t whole_chunks(int64_t numbers) { return (numbers + kChunk - 1) / kChunk * kChunk; }

// Vector number `part` of a chunk.
template <typename C>
OCTAVO_INLINE Vec load_part(const C* chunk, int part) {
  return load(chunk + part * kLanes);
}

#if defined(__AVX2__) && !defined(__AVX512F__)

OCTAVO_INLINE Vec load_part(const bf16* chunk, int part) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(chunk)), zero = _mm256_setzero_si256();
  return _mm256_castsi256_ps(part == 0 ? _mm256_unpacklo_epi16(zero, both) : _mm256_unpackhi_epi16(zero, both));
}

// A chunk of floats from its own order to that of `load_part`, and back.
OCTAVO_INLINE void exchange_order(float* chunk, const bf16*) {
  const Vec left = load(chunk), right = load(chunk + kLanes);
  store(chunk, _mm256_permute2f128_ps(left, right, 0x20));
  store(chunk + kLanes, _mm256_permute2f128_ps(left, right, 0x31));
}

#else

OCTAVO_INLINE void exchange_order(float*, const bf16*) {}

#endif

OCTAVO_INLINE void exchange_order(float*, const float*) {}
OCTAVO_INLINE void exchange_order(float*, const f16*) {}

// A row of floats, of which `numbers` count, for caches of type C: its whole chunks; what is left over stays as it is.
template <typename C>
void exchange_row(float* row, int64_t numbers) {
  for (int64_t d = 0; d + kChunk <= numbers; d += kChunk) exchange_order(row + d, static_cast<const C*>(nullptr));
}

// Asks for the lines of some numbers of the cache.
template <typename C>
OCTAVO_INLINE void prefetch_numbers(const C* from, int64_t numbers) {
  constexpr int64_t kLine = 64 / sizeof(C);
  for (int64_t d = 0; d < numbers; d += kLine) __builtin_prefetch(from + d);
}

// A row of the cache -> floats in whole chunks, in the order of `load_part`; zeros past the end.
template <typename C>
void widen_row(const C* from, float* to, int64_t numbers) {
  int64_t d = 0;
  for (; d + kChunk <= numbers; d += kChunk) {
#pragma GCC unroll 2
    for (int part = 0; part < kChunkVecs; ++part) store(to + d + part * kLanes, load_part(from + d, part));
  }
  for (; d < numbers; ++d) to[d] = to_float(from[d]);
  for (; d < whole_chunks(numbers); ++d) to[d] = 0.0f;
}

}  // namespace octavo::OCTAVO_ISA
