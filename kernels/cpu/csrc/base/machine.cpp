// What the machine gives at best, which kernels are held against: how fast it reads memory, and how fast it multiplies.
#include <cstdint>

#include "base/simd.h"
#include "base/table.h"
#include "base/tile_config.h"

namespace octavo::OCTAVO_ISA {
namespace {

constexpr int64_t kPiece = 1 << 20;  // bytes that a task reads
constexpr int kSums = 10;            // independent chains: as many as two units with a latency of four or five cycles need

// Every line of a piece, added up in a way that no compiler leaves out.
int64_t sum(const char* from, int64_t bytes) {
  IVec sums[4] = {};
  for (int64_t i = 0; i + 4 * static_cast<int64_t>(sizeof(IVec)) <= bytes; i += 4 * sizeof(IVec)) {
    for (int j = 0; j < 4; ++j) {
      IVec x;
      std::memcpy(&x, from + i + j * sizeof(IVec), sizeof(x));
      sums[j] += x;
    }
  }
  const IVec all = sums[0] + sums[1] + sums[2] + sums[3];
  int64_t total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += all[lane];
  return total;
}

// Values that the compiler can know nothing of.
OCTAVO_INLINE void hide(Vec& x) {
#if defined(__AVX2__)
  asm volatile("" : "+v"(x));
#else
  asm volatile("" : : "m"(x) : "memory");
#endif
}

// float32: rounds of kSums fused multiply-adds; the operations one thread does.
int64_t multiply_floats(int64_t rounds) {
  Vec sums[kSums] = {}, x = splat(1.0f), y = splat(1e-9f);
  hide(x);
  hide(y);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 10
    for (int j = 0; j < kSums; ++j) sums[j] = fmadd(x, y, sums[j]);
  }
  for (Vec& s : sums) hide(s);
  return rounds * kSums * kLanes * 2;
}

#if defined(OCTAVO_AMX)
int64_t multiply_bf16(int64_t rounds) {
  const TileConfig config;
  _tile_loadconfig(&config);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
  return rounds * 4 * 16 * 16 * 32 * 2;
}
#elif defined(__AVX512BF16__)
int64_t multiply_bf16(int64_t rounds) {
  __m512 sums[kSums] = {};
  __m512i bits = _mm512_set1_epi32(0x3f803f80);
  asm volatile("" : "+v"(bits));
  const __m512bh x = reinterpret_cast<const __m512bh&>(bits);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 10
    for (int j = 0; j < kSums; ++j) sums[j] = _mm512_dpbf16_ps(sums[j], x, x);
  }
  for (__m512& s : sums) asm volatile("" : "+v"(s));
  return rounds * kSums * 32 * 2;
}
#else
int64_t multiply_bf16(int64_t rounds) { return multiply_floats(rounds); }
#endif

}  // namespace

int64_t read_memory(const void* data, int64_t bytes) {
  std::atomic<int64_t> total{0};
  const int64_t pieces = bytes / kPiece;
  parallel_for(pieces, true, [&](int64_t i) {
    total.fetch_add(sum(static_cast<const char*>(data) + i * kPiece, kPiece), std::memory_order_relaxed);
  });
  return total.load();
}

int64_t multiply(DType dtype, int64_t rounds) {
  std::atomic<int64_t> done{0};
  parallel_for(num_threads(), true, [&](int64_t) {
    done.fetch_add(dtype == DType::bf16 ? multiply_bf16(rounds) : multiply_floats(rounds), std::memory_order_relaxed);
  });
  return done.load();
}

}  // namespace octavo::OCTAVO_ISA
