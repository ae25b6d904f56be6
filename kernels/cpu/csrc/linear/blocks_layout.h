// How weights of GGUF files are packed: their own numbers, to the bit, in another order.
//
// A weight [N, K] lies in panels of 32 columns (rows of the weight), a panel in blocks of 32 k. A value is
// scale * (code - offset) + minimum: codes are unsigned and have 4 to 8 bits, the offset belongs to the format, scales and
// minima to a column and a block (Q6_K: to half a block). A block holds, each for 32 columns side by side,
//
//   scales    float16; in the K formats 8-bit factors of float16 scales that stand before every 8 blocks
//   minima    likewise, where the format has them
//   codes     of two halves of 16 columns: 8 quads of k by 16 columns by 4 successive k, a byte each, so that a quad is one
//             operand of the processors' 8-bit dot products. Of codes below 8 bits the low 4 bits come first, those of quads
//             q and q + 4 in one byte, then the high bits, those of as many quads in a byte as fit.
#pragma once

#include <type_traits>

#include "linear/layout.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int kQuads = kBlock / 4;            // of a block
constexpr int kQuadBytes = kHalf * 4;         // a quad's codes of half a panel, a byte each
constexpr int kSuperBlocks = 8;               // blocks that share a scale of the K formats

typedef uint8_t ByteVec __attribute__((vector_size(kLanes)));
typedef int8_t SignedByteVec __attribute__((vector_size(kLanes)));

OCTAVO_INLINE Vec load_factors(const uint8_t* p) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  ByteVec bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, IVec), Vec);
#endif
}

OCTAVO_INLINE Vec load_factors(const int8_t* p) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  SignedByteVec bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, IVec), Vec);
#endif
}

// Codes of `Bits` bits.
template <int Bits>
struct Codes {
  static constexpr int kHighBits = Bits == 8 ? 0 : Bits - 4;
  static constexpr int kHighQuads = kHighBits ? 8 / kHighBits : 1;  // quads whose high bits share a byte
  static constexpr int kLowBytes = Bits == 8 ? kQuads * kQuadBytes : kQuads / 2 * kQuadBytes;  // of half a panel
  static constexpr int kHighBytes = kHighBits * kQuadBytes;
  static constexpr int64_t kBytes = 2 * (kLowBytes + kHighBytes);

  // Where the low bits of a column and quad lie, its high bits, and how far either is shifted.
  static constexpr int64_t low(int64_t column, int64_t quad) {
    return column / kHalf * kLowBytes + quad % (kLowBytes / kQuadBytes) * kQuadBytes + column % kHalf * 4;
  }
  static constexpr int64_t high(int64_t column, int64_t quad) {
    return 2 * kLowBytes + column / kHalf * kHighBytes + quad / kHighQuads * kQuadBytes + column % kHalf * 4;
  }
  static constexpr int low_shift(int64_t quad) { return Bits == 8 ? 0 : static_cast<int>(quad / 4 * 4); }
  static constexpr int high_shift(int64_t quad) { return static_cast<int>(quad % kHighQuads) * kHighBits; }

  // Into memory that was zero.
  static void set(uint8_t* codes, int64_t column, int64_t k, int code) {
    const int64_t quad = k / 4, byte = k % 4;
    if constexpr (Bits == 8) {
      codes[low(column, quad) + byte] = static_cast<uint8_t>(code);
    } else {
      codes[low(column, quad) + byte] |= static_cast<uint8_t>((code & 15) << low_shift(quad));
      if constexpr (kHighBits > 0) codes[high(column, quad) + byte] |= static_cast<uint8_t>(code >> 4 << high_shift(quad));
    }
  }

  static int get(const uint8_t* codes, int64_t column, int64_t k) {
    const int64_t quad = k / 4, byte = k % 4;
    if constexpr (Bits == 8) return codes[low(column, quad) + byte];
    int code = codes[low(column, quad) + byte] >> low_shift(quad) & 15;
    if constexpr (kHighBits > 0) {
      code |= (codes[high(column, quad) + byte] >> high_shift(quad) & ((1 << kHighBits) - 1)) << 4;
    }
    return code;
  }

  // All quads of kLanes columns, a column in a lane, a byte each.
  OCTAVO_INLINE static void load(const uint8_t* codes, int64_t column, IVec quads[kQuads]) {
#pragma GCC unroll 8
    for (int quad = 0; quad < kQuads; ++quad) {
      quads[quad] = load_bits(codes + low(column, quad));
      if constexpr (Bits != 8) quads[quad] = quads[quad] >> low_shift(quad) & 0x0f0f0f0f;
      if constexpr (kHighBits > 0) {
        constexpr int32_t kMask = ((1 << kHighBits) - 1) * 0x10101010;
        const IVec high_bits = load_bits(codes + high(column, quad));
        const int shift = 4 - high_shift(quad);
        quads[quad] |= (shift >= 0 ? high_bits << shift : high_bits >> -shift) & kMask;
      }
    }
  }

 private:
  OCTAVO_INLINE static IVec load_bits(const uint8_t* p) {
    IVec bits;
    std::memcpy(&bits, p, sizeof bits);
    return bits;
  }
};

// A format is a struct like these two. `Split` scales a block, each for as many k.
template <int Bits, int Offset, bool Minimum>
struct PlainBlocks {
  using Code = Codes<Bits>;
  static constexpr int kBits = Bits, kOffset = Offset, kSplit = 1;
  static constexpr bool kMinimum = Minimum;
  static constexpr int64_t kScaleBytes = kPanel * 2, kMinimumBytes = Minimum ? kPanel * 2 : 0;
  static constexpr int64_t kBlockBytes = kScaleBytes + kMinimumBytes + Code::kBytes;

  static constexpr int64_t panel_bytes(int64_t depth) { return depth / kBlock * kBlockBytes; }

  template <typename Byte>
  OCTAVO_INLINE static Byte* codes(Byte* panel, int64_t block) {
    return panel + block * kBlockBytes + kScaleBytes + kMinimumBytes;
  }
  OCTAVO_INLINE static Vec scale(const uint8_t* panel, int64_t block, int64_t column, int) {
    return load(reinterpret_cast<const f16*>(panel + block * kBlockBytes) + column);
  }
  OCTAVO_INLINE static Vec minimum(const uint8_t* panel, int64_t block, int64_t column) {
    return load(reinterpret_cast<const f16*>(panel + block * kBlockBytes + kScaleBytes) + column);
  }
  static float scale_of(const uint8_t* panel, int64_t block, int64_t column, int) {
    return to_float(reinterpret_cast<const f16*>(panel + block * kBlockBytes)[column]);
  }
  static float minimum_of(const uint8_t* panel, int64_t block, int64_t column) {
    return to_float(reinterpret_cast<const f16*>(panel + block * kBlockBytes + kScaleBytes)[column]);
  }
};

// Factors are unsigned in those with minima, signed in Q6_K.
template <int Bits, int Offset, bool Minimum, int Split>
struct SuperBlocks {
  using Code = Codes<Bits>;
  using Factor = std::conditional_t<Minimum, uint8_t, int8_t>;
  static constexpr int kBits = Bits, kOffset = Offset, kSplit = Split;
  static constexpr bool kMinimum = Minimum;
  static constexpr int64_t kHeadBytes = kPanel * (Minimum ? 4 : 2);
  static constexpr int64_t kScaleBytes = kPanel * Split, kMinimumBytes = Minimum ? kPanel : 0;
  static constexpr int64_t kBlockBytes = kScaleBytes + kMinimumBytes + Code::kBytes;
  static constexpr int64_t kSuperBytes = kHeadBytes + kSuperBlocks * kBlockBytes;

  static constexpr int64_t panel_bytes(int64_t depth) { return depth / (kSuperBlocks * kBlock) * kSuperBytes; }

  template <typename Byte>
  OCTAVO_INLINE static Byte* head(Byte* panel, int64_t block) {
    return panel + block / kSuperBlocks * kSuperBytes;
  }
  template <typename Byte>
  OCTAVO_INLINE static Byte* factors(Byte* panel, int64_t block) {
    return head(panel, block) + kHeadBytes + block % kSuperBlocks * kBlockBytes;
  }
  template <typename Byte>
  OCTAVO_INLINE static Byte* codes(Byte* panel, int64_t block) {
    return factors(panel, block) + kScaleBytes + kMinimumBytes;
  }
  OCTAVO_INLINE static Vec scale(const uint8_t* panel, int64_t block, int64_t column, int part) {
    const auto* factor = reinterpret_cast<const Factor*>(factors(panel, block)) + part * kPanel + column;
    return load(reinterpret_cast<const f16*>(head(panel, block)) + column) * load_factors(factor);
  }
  OCTAVO_INLINE static Vec minimum(const uint8_t* panel, int64_t block, int64_t column) {
    const Vec super = load(reinterpret_cast<const f16*>(head(panel, block)) + kPanel + column);
    return -(super * load_factors(factors(panel, block) + kScaleBytes + column));
  }
  static float scale_of(const uint8_t* panel, int64_t block, int64_t column, int part) {
    const auto* factor = reinterpret_cast<const Factor*>(factors(panel, block)) + part * kPanel + column;
    return to_float(reinterpret_cast<const f16*>(head(panel, block))[column]) * static_cast<float>(*factor);
  }
  static float minimum_of(const uint8_t* panel, int64_t block, int64_t column) {
    const float super = to_float(reinterpret_cast<const f16*>(head(panel, block))[kPanel + column]);
    return -(super * static_cast<float>(factors(panel, block)[kScaleBytes + column]));
  }
};

using Q8_0 = PlainBlocks<8, 128, false>;
using Q4_0 = PlainBlocks<4, 8, false>;
using Q4_1 = PlainBlocks<4, 0, true>;
using Q5_0 = PlainBlocks<5, 16, false>;
using Q5_1 = PlainBlocks<5, 0, true>;
using Q4_K = SuperBlocks<4, 0, true, 1>;
using Q5_K = SuperBlocks<5, 0, true, 1>;
using Q6_K = SuperBlocks<6, 32, false, 2>;

// Calls body(Q8_0{}) or what else the format is called; other formats are not for it.
template <typename Body>
void with_blocks(Format format, const Body& body) {
  switch (format) {
    case Format::q8_0: return body(Q8_0{});
    case Format::q4_0: return body(Q4_0{});
    case Format::q4_1: return body(Q4_1{});
    case Format::q5_0: return body(Q5_0{});
    case Format::q5_1: return body(Q5_1{});
    case Format::q4_k: return body(Q4_K{});
    case Format::q5_k: return body(Q5_K{});
    case Format::q6_k: return body(Q6_K{});
    default: return;
  }
}

}  // namespace octavo::OCTAVO_ISA
