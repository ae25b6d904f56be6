// bf16 weights in 12 bits, without loss.
//
// Few rows cost what it costs to read the weights. Of a bf16 value's 16 bits sign and mantissa take 8, and the 8 of the
// exponent hardly vary: 16 exponents cover all but some dozens of a million trained weights. So a panel is stored as a table of
// its 16 commonest exponents, a byte of sign and mantissa and a 4-bit index a value, and a list of the values with other
// exponents. (DFloat11, Zhang et al. 2025, does so with Huffman codes, in 11 bits; these here are decoded by four
// instructions for 64 values.)
//
// [N / 32] panels of (header, [K / 32] blocks of 8 groups of 128 values), then the exceptions of all panels. A group is 2 x
// 64 bytes of signs and mantissas and 64 bytes of indices, the lower half of a byte for a value of the first 64. Decoded, the
// values lie as linear/layout.h says; within 64 of them they are stored in the order that unpacking by 128-bit lanes undoes.
#pragma once

#include "base/kernels.h"
#include "linear/decoded.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kGroup = 128;                              // values
constexpr int64_t kGroupBytes = kGroup + kGroup / 2;
constexpr int64_t kCompactBlock = kBlockValues / kGroup * kGroupBytes;

struct CompactHeader {
  uint8_t high[16];  // of each exponent the bits that belong to the value's upper byte,
  uint8_t low[16];   // and the one that belongs to the lower
  int32_t first_exception, num_exceptions;
  uint8_t unused[24];
};
static_assert(sizeof(CompactHeader) == 64);

struct Exception {
  int32_t position;  // among the panel's decoded values
  bf16 value;
  uint16_t unused;
};

constexpr int64_t compact_panel_bytes(int64_t depth) { return 64 + depth / kBlock * kCompactBlock; }

// Where value `i` of 64 has its byte of sign and mantissa.
constexpr int64_t compact_place(int64_t i) { return i % 32 / 8 * 16 + i / 32 * 8 + i % 8; }

inline bf16 decode_value(const CompactHeader& header, const uint8_t* blocks, int64_t i) {
  const uint8_t* group = blocks + i / kGroup * kGroupBytes;
  const int64_t place = compact_place(i % 64), second = i % kGroup / 64;
  const int index = group[kGroup + place] >> second * 4 & 15;
  const uint8_t byte = group[second * 64 + place];
  return {static_cast<uint16_t>(((byte & 0x80) | header.high[index]) << 8 | (byte & 0x7f) | header.low[index])};
}

// Where value `i` of a block of bf16 lies among the block's values as type T.
template <typename T>
constexpr int64_t place_in_block(int64_t i) {
  if (kInterleaved<T> == 2) return i;
  const int64_t in_half = i % kHalfBlock;
  return (in_half / (2 * kHalf) * 2 + i % 2) * kPanel + i / kHalfBlock * kHalf + in_half % (2 * kHalf) / 2;
}

#if defined(__AVX2__)
#if defined(__AVX512F__)
typedef __m512i Bytes;
OCTAVO_INLINE Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
OCTAVO_INLINE Bytes spread(const uint8_t* table) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}
OCTAVO_INLINE Bytes low_nibbles(Bytes x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
OCTAVO_INLINE Bytes high_nibbles(Bytes x) { return low_nibbles(_mm512_srli_epi16(x, 4)); }
OCTAVO_INLINE Bytes look_up(Bytes table, Bytes index) { return _mm512_shuffle_epi8(table, index); }
OCTAVO_INLINE Bytes and_or(Bytes a, char b, Bytes c) { return _mm512_ternarylogic_epi32(a, _mm512_set1_epi8(b), c, 0xea); }
OCTAVO_INLINE IVec lower_pairs(Bytes low, Bytes high) { return reinterpret_cast<IVec>(_mm512_unpacklo_epi8(low, high)); }
OCTAVO_INLINE IVec upper_pairs(Bytes low, Bytes high) { return reinterpret_cast<IVec>(_mm512_unpackhi_epi8(low, high)); }
#else
typedef __m256i Bytes;
OCTAVO_INLINE Bytes load_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
OCTAVO_INLINE Bytes spread(const uint8_t* table) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}
OCTAVO_INLINE Bytes low_nibbles(Bytes x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
OCTAVO_INLINE Bytes high_nibbles(Bytes x) { return low_nibbles(_mm256_srli_epi16(x, 4)); }
OCTAVO_INLINE Bytes look_up(Bytes table, Bytes index) { return _mm256_shuffle_epi8(table, index); }
OCTAVO_INLINE Bytes and_or(Bytes a, char b, Bytes c) { return _mm256_or_si256(_mm256_and_si256(a, _mm256_set1_epi8(b)), c); }
OCTAVO_INLINE IVec lower_pairs(Bytes low, Bytes high) { return reinterpret_cast<IVec>(_mm256_unpacklo_epi8(low, high)); }
OCTAVO_INLINE IVec upper_pairs(Bytes low, Bytes high) { return reinterpret_cast<IVec>(_mm256_unpackhi_epi8(low, high)); }
#endif

// The exponents of a panel.
struct Exponents {
  explicit Exponents(const CompactHeader& header) : high(spread(header.high)), low(spread(header.low)) {}
  const Bytes high, low;
};

// The first kLanes columns' values of two k into the block, `pair` of them from its beginning on.
OCTAVO_INLINE void store_pairs(IVec pairs, int64_t half, int64_t pair, int64_t column, bf16* block) {
  std::memcpy(block + half * kHalfBlock + pair * 2 * kHalf + column * 2, &pairs, sizeof pairs);
}
OCTAVO_INLINE void store_pairs(IVec pairs, int64_t half, int64_t pair, int64_t column, float* block) {
  float* to = block + pair * 2 * kPanel + half * kHalf + column;
  store(to, as_float(pairs << 16));
  store(to + kPanel, as_float(pairs & static_cast<int32_t>(0xffff0000u)));
}

// 64 values, or of them a vector's columns: two k's in a lane, those of the next two k's besides.
template <typename T>
OCTAVO_INLINE void decode_64(const uint8_t* bytes, Bytes index, const Exponents& by, int64_t half, int64_t pair, int64_t column,
                             T* block) {
  const Bytes x = load_bytes(bytes);
  const Bytes upper = and_or(x, -128, look_up(by.high, index)), lower = and_or(x, 127, look_up(by.low, index));
  store_pairs(lower_pairs(lower, upper), half, pair, column, block);
  store_pairs(upper_pairs(lower, upper), half, pair + 1, column, block);
}

// Groups of 128 values, the `first` and those after it, into the blocks from `to` on.
template <typename T>
OCTAVO_INLINE void decode_groups(const CompactHeader& header, const uint8_t* from, int64_t first, int64_t groups, T* to) {
  constexpr int64_t kGroupsOfBlock = kBlockValues / kGroup, kGroupsOfHalf = kGroupsOfBlock / 2;
  const Exponents by(header);
  for (int64_t group = first; group < first + groups; ++group) {
    const uint8_t* bytes = from + group * kGroupBytes;
    for (int64_t line = 0; line < kGroupBytes; line += 64) __builtin_prefetch(bytes + kPrefetchBytes + line);
    const int64_t half = group / kGroupsOfHalf % 2, pair = group % kGroupsOfHalf * 4;
    T* block = to + group / kGroupsOfBlock * kBlockValues;
#pragma GCC unroll 2
    for (int64_t column = 0; column < kHalf; column += kLanes) {
      const uint8_t* some = bytes + column * 4;
      const Bytes indices = load_bytes(some + kGroup);
      decode_64(some, low_nibbles(indices), by, half, pair, column, block);
      decode_64(some + 64, high_nibbles(indices), by, half, pair + 2, column, block);
    }
  }
}
#else
template <typename T>
void decode_groups(const CompactHeader& header, const uint8_t* from, int64_t first, int64_t groups, T* to) {
  for (int64_t i = first * kGroup; i < (first + groups) * kGroup; ++i) {
    const int64_t block = i / kBlockValues * kBlockValues;
    to[block + place_in_block<T>(i - block)] = converted<T>(decode_value(header, from, i));
  }
}
#endif

// Where the parts of a compact panel lie.
struct CompactPanel {
  CompactPanel(const Weight& weight, int64_t panel, int64_t depth) {
    const char* data = static_cast<const char*>(weight.data);
    const char* mine = data + panel * compact_panel_bytes(depth);
    header = reinterpret_cast<const CompactHeader*>(mine);
    blocks = reinterpret_cast<const uint8_t*>(mine + sizeof(CompactHeader));
    const auto* all = reinterpret_cast<const Exception*>(data + padded(weight.n) / kPanel * compact_panel_bytes(depth));
    exceptions = all + header->first_exception;
    end = exceptions + header->num_exceptions;
  }

  const CompactHeader* header;
  const uint8_t* blocks;
  const Exception *exceptions, *end;
};

// Panels of a compact weight as values of type T: a decoder as linear/decoded.h has them.
template <typename T>
class CompactDecoder {
 public:
  using Value = T;
  static constexpr int64_t kUnit = kGroup;

  CompactDecoder(const Weight& weight, int64_t depth) : weight_(weight), depth_(depth) {}

  void open(int64_t panel, int64_t k) {
    const CompactPanel opened(weight_, panel, depth_);
    header_ = opened.header;
    from_ = opened.blocks + k / kBlock * kCompactBlock;
    next_ = opened.exceptions;
    end_ = opened.end;
    first_ = k * kPanel;
    while (next_ < end_ && next_->position < first_) ++next_;
  }

  OCTAVO_INLINE void decode(int64_t unit, int64_t units, T* to) const { decode_groups(*header_, from_, unit, units, to); }

  // Puts the exceptions among the values that end before k into place.
  OCTAVO_INLINE void finish(int64_t k, T* to) {
    for (; next_ < end_ && next_->position < k * kPanel; ++next_) {
      const int64_t at = next_->position - first_, block = at / kBlockValues * kBlockValues;
      to[block + place_in_block<T>(at - block)] = converted<T>(next_->value);
    }
  }

 private:
  const Weight& weight_;
  const int64_t depth_;
  const CompactHeader* header_ = nullptr;
  const uint8_t* from_ = nullptr;
  const Exception *next_ = nullptr, *end_ = nullptr;
  int64_t first_ = 0;  // value that was opened
};

// ---- packing

// The panel's commonest exponents -> its header; returns how many values have others.
inline int64_t choose_exponents(const bf16* values, int64_t count, CompactHeader& header) {
  int64_t histogram[256] = {}, covered = 0;
  for (int64_t i = 0; i < count; ++i) ++histogram[values[i].bits >> 7 & 0xff];
  for (int slot = 0; slot < 16; ++slot) {
    int best = 0;
    for (int e = 1; e < 256; ++e) best = histogram[e] > histogram[best] ? e : best;
    header.high[slot] = static_cast<uint8_t>(best >> 1);
    header.low[slot] = static_cast<uint8_t>(best << 7);
    covered += histogram[best];
    histogram[best] = 0;
  }
  return count - covered;
}

// A dense panel in compact form, behind its header, which is complete.
inline void encode_panel(const bf16* values, int64_t depth, const CompactHeader& header, uint8_t* blocks, Exception* exceptions) {
  constexpr uint8_t kNone = 255;
  uint8_t index_of[256];
  std::memset(index_of, kNone, sizeof index_of);
  for (int slot = 15; slot >= 0; --slot) index_of[header.high[slot] << 1 | header.low[slot] >> 7] = static_cast<uint8_t>(slot);
  std::memset(blocks, 0, static_cast<size_t>(compact_panel_bytes(depth)) - sizeof(CompactHeader));
  exceptions += header.first_exception;
  for (int64_t i = 0; i < depth * kPanel; ++i) {
    const uint16_t bits = values[i].bits;
    const uint8_t index = index_of[bits >> 7 & 0xff];
    if (index == kNone) {
      *exceptions++ = {static_cast<int32_t>(i), values[i], 0};
      continue;
    }
    uint8_t* group = blocks + i / kGroup * kGroupBytes;
    const int64_t place = compact_place(i % 64), second = i % kGroup / 64;
    group[second * 64 + place] = static_cast<uint8_t>((bits >> 8 & 0x80) | (bits & 0x7f));
    group[kGroup + place] = static_cast<uint8_t>(group[kGroup + place] | index << second * 4);
  }
}

// One packed column, k values.
template <typename T>
void decode_column(const Weight& weight, int64_t n, T* to) {
  constexpr int64_t kGroupsOfHalf = kHalfBlock / kGroup, kPair = 2 * kHalf;  // kPair: from one two k to the next two
  const int64_t depth = padded(weight.k), column = n % kPanel;
  const CompactPanel panel(weight, n / kPanel, depth);
  bf16 half[kHalfBlock];
  for (int64_t k = 0; k < weight.k; k += kBlock) {
    const uint8_t* from = panel.blocks + k / kBlock * kCompactBlock + column / kHalf * kGroupsOfHalf * kGroupBytes;
    decode_groups(*panel.header, from, 0, kGroupsOfHalf, half);
    for (int64_t i = 0; i < kBlock && k + i < weight.k; ++i) {
      to[k + i] = converted<T>(half[i / 2 * kPair + column % kHalf * 2 + i % 2]);
    }
  }
  for (const Exception* e = panel.exceptions; e < panel.end; ++e) {
    const int64_t in_block = e->position % kBlockValues, in_half = in_block % kHalfBlock;
    if (in_block / kHalfBlock * kHalf + in_half % kPair / 2 != column) continue;
    const int64_t k = e->position / kBlockValues * kBlock + in_half / kPair * 2 + in_half % 2;
    if (k < weight.k) to[k] = converted<T>(e->value);
  }
}

}  // namespace octavo::OCTAVO_ISA
