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
#include "linear/dense.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kGroup = 128;                              // values
constexpr int64_t kGroupBytes = kGroup + kGroup / 2;
constexpr int64_t kBlockValues = kBlock * kPanel;
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

#if defined(__AVX512BW__)
OCTAVO_INLINE void decode_64(const uint8_t* bytes, __m512i index, __m512i high, __m512i low, bf16* to) {
  constexpr int kAndOr = 0xea;  // (a & b) | c
  const __m512i x = _mm512_loadu_si512(bytes);
  const __m512i upper = _mm512_ternarylogic_epi32(x, _mm512_set1_epi8(-128), _mm512_shuffle_epi8(high, index), kAndOr);
  const __m512i lower = _mm512_ternarylogic_epi32(x, _mm512_set1_epi8(127), _mm512_shuffle_epi8(low, index), kAndOr);
  _mm512_storeu_si512(to, _mm512_unpacklo_epi8(lower, upper));
  _mm512_storeu_si512(to + 32, _mm512_unpackhi_epi8(lower, upper));
}

// Groups of 128 values.
OCTAVO_INLINE void decode_groups(const CompactHeader& header, const uint8_t* from, int64_t groups, bf16* to) {
  const __m512i high = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(header.high)));
  const __m512i low = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(header.low)));
  const __m512i nibble = _mm512_set1_epi8(15);
  for (int64_t i = 0; i < groups; ++i, from += kGroupBytes, to += kGroup) {
    for (int64_t line = 0; line < kGroupBytes; line += 64) __builtin_prefetch(from + kPrefetchBytes + line);
    const __m512i indices = _mm512_loadu_si512(from + kGroup);
    decode_64(from, _mm512_and_si512(indices, nibble), high, low, to);
    decode_64(from + 64, _mm512_and_si512(_mm512_srli_epi16(indices, 4), nibble), high, low, to + 64);
  }
}
#else
inline void decode_groups(const CompactHeader& header, const uint8_t* from, int64_t groups, bf16* to) {
  for (int64_t i = 0; i < groups * kGroup; ++i) to[i] = decode_value(header, from, i);
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

// Put a stretch's exceptions, from `next` on, into its decoded values; returns the one after them.
inline const Exception* patch(const CompactPanel& panel, const Exception* next, Stretch stretch, bf16* to) {
  for (; next < panel.end && next->position < stretch.to * kPanel; ++next) {
    to[next->position - stretch.from * kPanel] = next->value;
  }
  return next;
}

// A compact panel, decoded block by block on the way to the kernel.
class CompactBlocks {
 public:
  static constexpr bool kBusy = false;

  CompactBlocks(const Weight& weight, int64_t panel, int64_t depth)
      : panel_(weight, panel, depth), next_(panel_.exceptions) {}

  const bf16* at(int64_t k) {
    bf16* to = buffer_[k / kBlock % 2];
    decode_groups(*panel_.header, panel_.blocks + k / kBlock * kCompactBlock, kBlockValues / kGroup, to);
    next_ = patch(panel_, next_, {k, k + kBlock}, to);
    return to;
  }
  void work() const {}

 private:
  const CompactPanel panel_;
  const Exception* next_;
  alignas(64) bf16 buffer_[2][kBlockValues];
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
inline void decode_column(const Weight& weight, int64_t n, bf16* to) {
  constexpr int64_t kGroupsOfHalf = kHalfBlock / kGroup, kPair = 2 * kHalf;  // kPair: from one two k to the next two
  const int64_t depth = padded(weight.k), column = n % kPanel;
  const CompactPanel panel(weight, n / kPanel, depth);
  bf16 half[kHalfBlock];
  for (int64_t k = 0; k < weight.k; k += kBlock) {
    const uint8_t* from = panel.blocks + k / kBlock * kCompactBlock + column / kHalf * kGroupsOfHalf * kGroupBytes;
    decode_groups(*panel.header, from, kGroupsOfHalf, half);
    for (int64_t i = 0; i < kBlock && k + i < weight.k; ++i) to[k + i] = half[i / 2 * kPair + column % kHalf * 2 + i % 2];
  }
  for (const Exception* e = panel.exceptions; e < panel.end; ++e) {
    const int64_t in_block = e->position % kBlockValues, in_half = in_block % kHalfBlock;
    if (in_block / kHalfBlock * kHalf + in_half % kPair / 2 != column) continue;
    const int64_t k = e->position / kBlockValues * kBlock + in_half / kPair * 2 + in_half % 2;
    if (k < weight.k) to[k] = e->value;
  }
}

}  // namespace octavo::OCTAVO_ISA
