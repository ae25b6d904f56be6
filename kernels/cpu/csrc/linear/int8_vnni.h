// Products of 8 bits with the processor's own dot product of four bytes, which takes x as unsigned: each value plus 128.
#pragma once

#include "linear/int8.h"

namespace octavo::OCTAVO_ISA {

#if defined(__AVX512VNNI__) && !defined(OCTAVO_AMX)

template <int N>
void vnni_panel(const uint8_t* x, const PanelHead* head, int64_t depth, int32_t* sums) {
  const auto* weights = reinterpret_cast<const int8_t*>(head + 1);
  __m512i total[N][2];
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) {
    total[n][0] = _mm512_loadu_si512(head->starts);
    total[n][1] = _mm512_loadu_si512(head->starts + kHalf);
  }
  for (int64_t block = 0; block < depth; block += kByteBlock) {
    for (int64_t k = 0; k < kByteBlock; k += kQuad) {
      const int8_t* here = weights + block * kPanel + k * kHalf;
      const __m512i w0 = _mm512_loadu_si512(here), w1 = _mm512_loadu_si512(here + kByteHalfBlock);
      _mm_prefetch(reinterpret_cast<const char*>(here) + kPrefetchBytes, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(here) + kByteHalfBlock + kPrefetchBytes, _MM_HINT_T0);
#pragma GCC unroll 12
      for (int n = 0; n < N; ++n) {
        int32_t quad;
        std::memcpy(&quad, x + n * depth + block + k, sizeof quad);
        const __m512i a = _mm512_set1_epi32(quad);
        total[n][0] = _mm512_dpbusd_epi32(total[n][0], a, w0);
        total[n][1] = _mm512_dpbusd_epi32(total[n][1], a, w1);
      }
    }
  }
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) {
    _mm512_storeu_si512(sums + n * kPanel, total[n][0]);
    _mm512_storeu_si512(sums + n * kPanel + kHalf, total[n][1]);
  }
}

struct VnniKernel : KernelDefaults {
  static constexpr int kRows = 12;
  static constexpr int64_t group_bytes(int64_t depth) { return kGroupHeadBytes + kRows * byte_depth(depth); }
  static constexpr int64_t panel_bytes(int64_t depth) { return byte_panel_bytes(depth); }

  template <typename X>
  static void prepare(char* group, int64_t row, const X* x, int64_t k, int64_t depth) {
    char* to = group + kGroupHeadBytes + row * byte_depth(depth);
    group_scales(group)[row] = quantize(x, k, [to](int64_t i, const ByteBlock& values) {
      const ByteBlock unsigned_values = values ^ static_cast<int8_t>(-128);
      std::memcpy(to + i, &unsigned_values, sizeof values);
    });
  }

  template <int N>
  struct Sized {
    static void run(const uint8_t* x, const PanelHead* head, int64_t depth, int32_t* sums) {
      vnni_panel<N>(x, head, depth, sums);
    }
  };

  static void run(int rows, const char* x, const char* panel, int64_t depth, bool, float* out) {
    alignas(64) int32_t sums[kRows * kPanel];
    const auto* head = reinterpret_cast<const PanelHead*>(panel);
    with_constant<kRows, Sized>(rows, reinterpret_cast<const uint8_t*>(x + kGroupHeadBytes), head, byte_depth(depth), &sums[0]);
    scale_sums(rows, sums, group_scales(x), *head, out);
  }
};

#endif

}  // namespace octavo::OCTAVO_ISA
