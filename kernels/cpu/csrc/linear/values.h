// Stored weights as the values they stand for: blocks of GGUF files and 16-bit floats, decoded to what x is of.
//
// A value is scale * (code - offset) + minimum. The product is exact in float32, as scales have 11 bits, factors 7 and codes 8
// at most (Q6_K: 11, 7 and 5), so that the sum alone rounds: to the bit what widening the weight while loading it gives.
#pragma once

#include "linear/blocks_layout.h"
#include "linear/decoded.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kHalves = 2;  // of a panel's block

// Byte `i` of each lane.
OCTAVO_INLINE IVec byte_of(IVec lanes, int i) {
#if defined(__AVX512F__)
  const __m512i picked = _mm512_set1_epi32(static_cast<int32_t>(0x80808000u) + i);
  const __m512i lane_starts = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 4, 8, 12));
  return reinterpret_cast<IVec>(_mm512_shuffle_epi8(reinterpret_cast<__m512i>(lanes), _mm512_add_epi32(picked, lane_starts)));
#elif defined(__AVX2__)
  const __m256i picked = _mm256_set1_epi32(static_cast<int32_t>(0x80808000u) + i);
  const __m256i lane_starts = _mm256_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12);
  return reinterpret_cast<IVec>(_mm256_shuffle_epi8(reinterpret_cast<__m256i>(lanes), _mm256_add_epi32(picked, lane_starts)));
#else
  return lanes >> i * 8 & 0xff;
#endif
}

// Two numbers per lane as bf16, the first in its lower half.
OCTAVO_INLINE IVec rounded_pairs(Vec first, Vec second) {
#if defined(__AVX512BF16__)
  alignas(64) static const uint16_t kInTurns[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                    8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  return reinterpret_cast<IVec>(_mm512_permutexvar_epi16(_mm512_load_si512(kInTurns), halves));
#else
  const auto rounded = [](Vec x) -> IVec {
    const IVec bits = as_int(x);
    return x == x ? bits + 0x7fff + ((bits >> 16) & 1) : bits | 0x400000;
  };
  return (rounded(first) >> 16 & 0xffff) | (rounded(second) & static_cast<int32_t>(0xffff0000u));
#endif
}

// Two successive k of kLanes columns, from `column` of the block on.
OCTAVO_INLINE void store_two(Vec first, Vec second, int64_t k, int64_t column, float* block) {
  store(block + k * kPanel + column, first);
  store(block + (k + 1) * kPanel + column, second);
}
OCTAVO_INLINE void store_two(Vec first, Vec second, int64_t k, int64_t column, f16* block) {
  store(block + k * kPanel + column, first);
  store(block + (k + 1) * kPanel + column, second);
}
OCTAVO_INLINE void store_two(Vec first, Vec second, int64_t k, int64_t column, bf16* block) {
  const IVec pairs = rounded_pairs(first, second);
  std::memcpy(block + column / kHalf * kHalfBlock + k * kHalf + column % kHalf * 2, &pairs, sizeof pairs);
}

// Half a block of a format of GGUF files.
template <typename Form, typename T>
struct FormValues {
  static int64_t panel_bytes(int64_t depth) { return Form::panel_bytes(depth); }

  static void decode(const uint8_t* panel, int64_t number, int64_t half, T* block) {
    if (half == 0) prefetch_lines(reinterpret_cast<const char*>(Form::codes(panel, number)) + kPrefetchBytes, kLines);
    for (int64_t column = half * kHalf; column < (half + 1) * kHalf; column += kLanes) {
      IVec quads[kQuads];
      Form::Code::load(Form::codes(panel, number), column, quads);
      decode_columns(quads, panel, number, column, block);
    }
  }

 private:
  static constexpr int64_t kLines = (Form::kBlockBytes + 63) / 64 * 64;

  OCTAVO_INLINE static void decode_columns(const IVec quads[kQuads], const uint8_t* panel, int64_t number, int64_t column,
                                           T* block) {
    constexpr int kPart = kQuads / Form::kSplit;
    Vec minimum{};
    if constexpr (Form::kMinimum) minimum = Form::minimum(panel, number, column);
#pragma GCC unroll 2
    for (int part = 0; part < Form::kSplit; ++part) {
      const Vec scale = Form::scale(panel, number, column, part);
#pragma GCC unroll 8
      for (int quad = part * kPart; quad < (part + 1) * kPart; ++quad) {
#pragma GCC unroll 2
        for (int byte = 0; byte < 4; byte += 2) {
          store_two(value(quads[quad], byte, scale, minimum), value(quads[quad], byte + 1, scale, minimum), quad * 4 + byte,
                    column, block);
        }
      }
    }
  }

  OCTAVO_INLINE static Vec value(IVec quad, int byte, Vec scale, Vec minimum) {
    const Vec code = __builtin_convertvector(byte_of(quad, byte) - Form::kOffset, Vec);
    if constexpr (Form::kMinimum) return fmadd(code, scale, minimum);
    return code * scale;
  }
};

// Half a block of a dense weight of another type.
template <typename Stored, typename T>
struct StoredValues {
  static int64_t panel_bytes(int64_t depth) { return depth * kPanel * static_cast<int64_t>(sizeof(Stored)); }

  static void decode(const uint8_t* panel, int64_t number, int64_t half, T* block) {
    const Stored* from = reinterpret_cast<const Stored*>(panel) + number * kBlockValues;
    if (half == 0) prefetch_lines(reinterpret_cast<const char*>(from) + kPrefetchBytes, kBlockValues * sizeof(Stored));
    for (int64_t k = 0; k < kBlock; k += 2) {
#pragma GCC unroll 4
      for (int64_t column = half * kHalf; column < (half + 1) * kHalf; column += kLanes) decode_two(from, k, column, block);
    }
  }

 private:
  OCTAVO_INLINE static void decode_two(const bf16* from, int64_t k, int64_t column, T* block) {
    IVec pairs;
    std::memcpy(&pairs, from + column / kHalf * kHalfBlock + k * kHalf + column % kHalf * 2, sizeof pairs);
    store_two(as_float(pairs << 16), as_float(pairs & static_cast<int32_t>(0xffff0000u)), k, column, block);
  }
  OCTAVO_INLINE static void decode_two(const f16* from, int64_t k, int64_t column, T* block) {
    store_two(load(from + k * kPanel + column), load(from + (k + 1) * kPanel + column), k, column, block);
  }
};

// Any of them, chosen when it is made, so that kernels need not be compiled for each: a decoder as linear/decoded.h has them.
template <typename T>
class ValueDecoder {
 public:
  using Value = T;
  static constexpr int64_t kUnit = kHalfBlock;

  ValueDecoder(const Weight& weight, int64_t depth) : data_(static_cast<const uint8_t*>(weight.data)) {
    if (weight.format == Format::dense) {
      weight.stored == DType::bf16 ? choose<StoredValues<bf16, T>>(depth) : choose<StoredValues<f16, T>>(depth);
    } else {
      with_blocks(weight.format, [&](auto form) { choose<FormValues<decltype(form), T>>(depth); });
    }
  }

  void open(int64_t panel, int64_t k) {
    panel_ = data_ + panel * panel_bytes_;
    first_ = k / kBlock;
  }

  void decode(int64_t unit, int64_t units, T* to) const {
    for (int64_t i = unit; i < unit + units; ++i) {
      decode_(panel_, first_ + i / kHalves, i % kHalves, to + i / kHalves * kBlockValues);
    }
  }

  void finish(int64_t, T*) const {}

 private:
  template <typename Values>
  void choose(int64_t depth) {
    decode_ = &Values::decode;
    panel_bytes_ = Values::panel_bytes(depth);
  }

  const uint8_t* data_;
  void (*decode_)(const uint8_t* panel, int64_t number, int64_t half, T* block) = nullptr;
  int64_t panel_bytes_ = 0, first_ = 0;
  const uint8_t* panel_ = nullptr;
};

}  // namespace octavo::OCTAVO_ISA
