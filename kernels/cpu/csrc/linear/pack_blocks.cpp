// Blocks of GGUF files into panels, and a row of them back into numbers.
//
// The file's side follows ggml's block structures: what stands where is given at each of them.
#include "linear/blocks_layout.h"
#include "base/table.h"

namespace octavo::OCTAVO_ISA {
namespace {

constexpr int kSuper = kSuperBlocks * kBlock;

// 16 bits as they are.
void copy_half(const uint8_t* from, uint8_t* halves, int64_t column) { std::memcpy(halves + column * 2, from, 2); }

uint32_t load_bits32(const uint8_t* p) {
  uint32_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return bits;
}

// The formats in the file: bytes of a block of kValues, and where its numbers are.

// float16 scale and, where there is one, minimum; for 5 bits a word of high bits; the low bits of values 0-15 and 16-31 in the
// halves of 16 bytes. Of 8 bits: the bytes, signed.
template <typename Form>
struct Source {
  static constexpr int kValues = kBlock;
  static constexpr int64_t kHead = 2 + (Form::kMinimum ? 2 : 0), kHigh = Form::kBits == 5 ? 4 : 0;
  static constexpr int64_t kBytes = kHead + kHigh + (Form::kBits == 8 ? 32 : 16);

  static int code(const uint8_t* from, int64_t, int64_t k) {
    const uint8_t* codes = from + kHead + kHigh;
    if constexpr (Form::kBits == 8) return codes[k] ^ 0x80;
    const int low = codes[k % 16] >> k / 16 * 4 & 15;
    return Form::kBits == 5 ? low | (load_bits32(from + kHead) >> k & 1) << 4 : low;
  }
  static void copy_scales(const uint8_t* from, uint8_t* panel, int64_t block, int64_t column) {
    uint8_t* to = panel + block * Form::kBlockBytes;
    copy_half(from, to, column);
    if constexpr (Form::kMinimum) copy_half(from + 2, to + Form::kScaleBytes, column);
  }
};

// float16 scale and minimum; 8 factors for either of 6 bits each in 12 bytes; for 5 bits 32 bytes with a high bit of every
// block; the low bits of two blocks in the halves of each 32 bytes.
template <typename Form>
struct FactorSource {
  static constexpr int kValues = kSuper;
  static constexpr int64_t kCodes = Form::kBits == 5 ? 48 : 16, kBytes = kCodes + 128;

  static int code(const uint8_t* from, int64_t part, int64_t k) {
    const int low = from[kCodes + part / 2 * 32 + k] >> part % 2 * 4 & 15;
    return Form::kBits == 5 ? low | (from[16 + k] >> part & 1) << 4 : low;
  }
  static void copy_scales(const uint8_t* from, uint8_t* panel, int64_t block, int64_t column) {
    const int64_t part = block % kSuperBlocks;
    const uint8_t* packed = from + 4;
    uint8_t* factors = Form::factors(panel, block);
    const bool wide = part >= 4;
    factors[column] = wide ? (packed[part + 4] & 15) | packed[part - 4] >> 6 << 4 : packed[part] & 63;
    factors[kPanel + column] = wide ? packed[part + 4] >> 4 | packed[part] >> 6 << 4 : packed[part + 4] & 63;
    copy_half(from, Form::head(panel, block), column);
    copy_half(from + 2, Form::head(panel, block) + kPanel * 2, column);
  }
};

template <>
struct Source<Q4_K> : FactorSource<Q4_K> {};
template <>
struct Source<Q5_K> : FactorSource<Q5_K> {};

// In halves of 128 values: 4 low bits of blocks 0 and 2, 1 and 3 in 64 bytes, 2 high bits of all four in 32 bytes. Then a
// signed factor for every 16 values, then the float16 scale.
template <>
struct Source<Q6_K> {
  static constexpr int kValues = kSuper;
  static constexpr int64_t kHigh = 128, kFactors = 192, kScale = 208, kBytes = 210;

  static int code(const uint8_t* from, int64_t part, int64_t k) {
    const int64_t half = part / 4, quarter = part % 4;
    const int low = from[half * 64 + quarter % 2 * 32 + k] >> quarter / 2 * 4 & 15;
    return low | (from[kHigh + half * 32 + k] >> quarter * 2 & 3) << 4;
  }
  static void copy_scales(const uint8_t* from, uint8_t* panel, int64_t block, int64_t column) {
    uint8_t* factors = Q6_K::factors(panel, block);
    for (int64_t i = 0; i < 2; ++i) factors[i * kPanel + column] = from[kFactors + block % kSuperBlocks * 2 + i];
    copy_half(from + kScale, Q6_K::head(panel, block), column);
  }
};

template <typename Form>
void pack_column(const PackArgs& a, uint8_t* panel, int64_t column, const uint8_t* row) {
  for (int64_t block = 0; block < a.k / kBlock; ++block) {
    constexpr int64_t kParts = Source<Form>::kValues / kBlock;
    const uint8_t* from = row + block / kParts * Source<Form>::kBytes;
    Source<Form>::copy_scales(from, panel, block, column);
    uint8_t* codes = Form::codes(panel, block);
    for (int64_t k = 0; k < kBlock; ++k) Form::Code::set(codes, column, k, Source<Form>::code(from, block % kParts, k));
  }
}

template <typename Form>
void pack_panel(const PackArgs& a, int64_t number) {
  uint8_t* panel = static_cast<uint8_t*>(a.packed) + number * Form::panel_bytes(a.k);
  std::memset(panel, 0, static_cast<size_t>(Form::panel_bytes(a.k)));
  for (int64_t column = 0; column < kPanel; ++column) {
    const int64_t row = row_of_column(a, number * kPanel + column);
    const int64_t bytes = a.k / Source<Form>::kValues * Source<Form>::kBytes;
    if (row >= 0) pack_column<Form>(a, panel, column, static_cast<const uint8_t*>(a.weight.data) + row * bytes);
  }
}

template <typename Form, typename T>
void unpack(const Weight& weight, int64_t row, T* out) {
  const uint8_t* panel = static_cast<const uint8_t*>(weight.data) + row / kPanel * Form::panel_bytes(weight.k);
  const int64_t column = row % kPanel;
  for (int64_t k = 0; k < weight.k; ++k) {
    const int64_t block = k / kBlock;
    const float scale = Form::scale_of(panel, block, column, static_cast<int>(k % kBlock * Form::kSplit / kBlock));
    const int code = Form::Code::get(Form::codes(panel, block), column, k % kBlock);
    float value = scale * static_cast<float>(code - Form::kOffset);
    if constexpr (Form::kMinimum) value += Form::minimum_of(panel, block, column);
    out[k] = from_float<T>(value);
  }
}

}  // namespace

void pack_blocks(Format format, const PackArgs& a) {
  with_blocks(format, [&](auto form) {
    parallel_for(padded(a.n) / kPanel, true, [&](int64_t panel) { pack_panel<decltype(form)>(a, panel); });
  });
}

int64_t blocks_bytes(Format format, int64_t n, int64_t k) {
  int64_t bytes = 0;
  with_blocks(format, [&](auto form) { bytes = padded(n) / kPanel * decltype(form)::panel_bytes(k); });
  return bytes;
}

void unpack_blocks_row(const Weight& weight, int64_t row, void* out) {
  with_blocks(weight.format, [&](auto form) {
    OCTAVO_DISPATCH(weight.dtype, T, unpack<decltype(form)>(weight, row, static_cast<T*>(out)));
  });
}

}  // namespace octavo::OCTAVO_ISA
