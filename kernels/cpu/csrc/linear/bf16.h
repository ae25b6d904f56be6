// Products of bf16 with the processor's own pairwise dot product, which takes x unconverted.
#pragma once

#include "linear/dense.h"

namespace octavo::OCTAVO_ISA {

#if defined(__AVX512BF16__) && !defined(OCTAVO_AMX)

OCTAVO_INLINE __m512bh load_pairs(const bf16* w) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(w)); }

template <int N, typename Blocks>
void bf16_panel(const bf16* x, int64_t depth, Blocks& blocks, Stretch stretch, float* out) {
  __m512 total[N][2];
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) {
    total[n][0] = stretch.from > 0 ? _mm512_loadu_ps(out + n * kPanel) : _mm512_setzero_ps();
    total[n][1] = stretch.from > 0 ? _mm512_loadu_ps(out + n * kPanel + kHalf) : _mm512_setzero_ps();
  }
  for (int64_t block = stretch.from; block < stretch.to; block += kBlock) {
    const bf16* weights = blocks.at(block);
    for (int64_t k = 0; k < kBlock; k += 2) {
      const __m512bh w0 = load_pairs(weights + k * kHalf), w1 = load_pairs(weights + k * kHalf + kHalfBlock);
#pragma GCC unroll 12
      for (int n = 0; n < N; ++n) {
        int32_t pair;
        std::memcpy(&pair, x + n * depth + block + k, sizeof pair);
        const __m512bh a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
        total[n][0] = _mm512_dpbf16_ps(total[n][0], a, w0);
        total[n][1] = _mm512_dpbf16_ps(total[n][1], a, w1);
      }
    }
    blocks.work();
  }
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) {
    _mm512_storeu_ps(out + n * kPanel, total[n][0]);
    _mm512_storeu_ps(out + n * kPanel + kHalf, total[n][1]);
  }
}

struct Bf16Kernel : KernelDefaults {
  static constexpr int kRows = 12;

  static constexpr int64_t kDepth = kBlock;
  static constexpr int64_t group_bytes(int64_t depth) { return kRows * depth * 2; }
  static constexpr int64_t panel_bytes(int64_t depth) { return kPanel * depth * 2; }

  static void prepare(char* group, int64_t row, const bf16* x, int64_t k, int64_t depth) {
    char* to = group + row * depth * 2;
    std::memcpy(to, x, k * 2);
    std::memset(to + k * 2, 0, (depth - k) * 2);
  }

  template <int N>
  struct Sized {
    template <typename Blocks>
    static void run(const bf16* x, Blocks& blocks, int64_t depth, Stretch stretch, float* out) {
      bf16_panel<N>(x, depth, blocks, stretch, out);
    }
  };

  template <typename Blocks>
  static void run(int rows, const char* x, Blocks& blocks, int64_t depth, Stretch stretch, float* out) {
    run_group<kRows, Sized>(rows, reinterpret_cast<const bf16*>(x), blocks, depth, stretch, out);
  }
};

#endif

}  // namespace octavo::OCTAVO_ISA
