// Products with a GGUF file's packed blocks, in 8-bit integers.
//
// Every 32 values of a row of x share a scale, their largest magnitude / 127, and become integers. A block's dot product is
// exact; blocks are added up in float32, in the order of k, by the same instructions however many rows there are.
#pragma once

#include "linear/blocks_layout.h"
#include "linear/dense.h"

namespace octavo::OCTAVO_ISA {

#if defined(__AVX512F__)
constexpr int kBlockRows = 8;
#else
constexpr int kBlockRows = kPanelVecs > 4 ? 1 : 2;
#endif

constexpr float kLeastMagnitude = 1e-30f;  // of what is more than zero: 127 / it is still finite

// 32 values of a row of x. Words are how many of 32 bits a quad of them takes: one holds 4 bytes; two hold 2 numbers of 16
// bits each, the even and the odd ones, for want of an instruction that multiplies such bytes without overflow.
template <int Words>
struct XBlock {
  float scale, sum;  // sum: of the values
  int32_t start[2];  // what sums over the first and second 16 of them, or in start[0] over all, begin with: -offset times theirs
  int32_t quads[kQuads * Words];
};

// a.even * b.even + a.odd * b.odd of 16-bit integers
OCTAVO_INLINE IVec multiply_pairs(IVec a, IVec b) {
#if defined(__AVX512F__)
  return reinterpret_cast<IVec>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<IVec>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  return reinterpret_cast<IVec>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

// total + the dot products of unsigned codes with x, of 4 bytes in each lane.
template <int Bits>
struct Dot {
#if defined(__AVX512VNNI__)
  static constexpr int kWords = 1;
  OCTAVO_INLINE static IVec add(IVec total, IVec codes, const int32_t* x) {
    return reinterpret_cast<IVec>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(total), reinterpret_cast<__m512i>(codes),
                                                      _mm512_set1_epi32(x[0])));
  }
#else
  static constexpr int kWords = 2;
  OCTAVO_INLINE static IVec add(IVec total, IVec codes, const int32_t* x) {
    constexpr int32_t kLowBytes = 0x00ff00ff;
    const IVec even = codes & kLowBytes, odd = (codes >> 8) & kLowBytes;
    return total + multiply_pairs(even, IVec{} + x[0]) + multiply_pairs(odd, IVec{} + x[1]);
  }
#endif
};

OCTAVO_INLINE IVec max(IVec a, IVec b) { return a > b ? a : b; }

OCTAVO_INLINE int32_t max(IVec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_epi32(reinterpret_cast<__m512i>(x));
#else
  int32_t largest = x[0];
  for (int lane = 1; lane < kLanes; ++lane) largest = x[lane] > largest ? x[lane] : largest;
  return largest;
#endif
}

OCTAVO_INLINE int32_t sum(IVec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_epi32(reinterpret_cast<__m512i>(x));
#else
  int32_t total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += x[lane];
  return total;
#endif
}

// Lanes' low bytes.
OCTAVO_INLINE void store_low_bytes(int8_t* p, IVec x) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(x)));
#else
  const auto bytes = __builtin_convertvector(x, SignedByteVec);
  std::memcpy(p, &bytes, sizeof bytes);
#endif
}

// What 32 values are divided by, and times what they become integers; NaN where one of them is not finite.
struct BlockScale {
  float scale, inverse;
};

OCTAVO_INLINE BlockScale block_scale(const Vec values[kBlock / kLanes]) {
  // As integers, magnitudes have the order of the floats, with infinity and NaN on top.
  IVec largest{};
  for (int i = 0; i < kBlock / kLanes; ++i) largest = max(largest, as_int(values[i]) & 0x7fffffff);
  const int32_t bits = max(largest);
  if (bits >= 0x7f800000) return {from_bits(0x7fc00000), 0.0f};
  const float magnitude = from_bits(static_cast<uint32_t>(bits));
  if (magnitude < kLeastMagnitude) return {0.0f, 0.0f};
  return {magnitude / 127.0f, 127.0f / magnitude};
}

template <typename Form>
struct BlockKernel : KernelDefaults {
  static constexpr int kRows = kBlockRows;
  static constexpr int kWords = Dot<Form::kBits>::kWords;
  using X = XBlock<kWords>;

  static constexpr int64_t row_bytes(int64_t depth) { return depth / kBlock * static_cast<int64_t>(sizeof(X)); }
  static constexpr int64_t group_bytes(int64_t depth) { return kRows * row_bytes(depth); }
  static constexpr int64_t panel_bytes(int64_t depth) { return Form::panel_bytes(depth); }

  template <typename T>
  static void prepare(char* group, int64_t row, const T* x, int64_t k, int64_t depth) {
    X* to = reinterpret_cast<X*>(group + row * row_bytes(depth));
    for (int64_t block = 0; block < k / kBlock; ++block) quantize(x + block * kBlock, to[block]);
  }

  template <typename T>
  OCTAVO_INLINE static void quantize(const T* x, X& to) {
    constexpr int kVecs = kBlock / kLanes;
    const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
    Vec values[kVecs];
    for (int i = 0; i < kVecs; ++i) values[i] = load(x + i * kLanes);
    const BlockScale by = block_scale(values);
    int8_t integers[kBlock];
    IVec lanes[2] = {};
#pragma GCC unroll 8
    for (int i = 0; i < kVecs; ++i) {
      // Where a value is not finite these mean nothing, and the scale, NaN, says so.
      const IVec rounded = as_int(values[i] * splat(by.inverse) + magic) - as_int(magic);
      store_low_bytes(integers + i * kLanes, rounded);
      lanes[i * kLanes / kHalf] += rounded;
    }
    const int32_t sums[2] = {sum(lanes[0]), sum(lanes[1])};
    to.scale = by.scale;
    to.sum = by.scale * static_cast<float>(sums[0] + sums[1]);
    to.start[0] = -Form::kOffset * (Form::kSplit == 2 ? sums[0] : sums[0] + sums[1]);
    to.start[1] = -Form::kOffset * sums[1];
    lay_out(integers, to.quads);
  }

  OCTAVO_INLINE static void lay_out(const int8_t* integers, int32_t* quads) {
    if constexpr (kWords == 1) {
      std::memcpy(quads, integers, kBlock);
    } else {
      auto* pairs = reinterpret_cast<int16_t*>(quads);
      for (int i = 0; i < kBlock; ++i) pairs[i / 4 * 4 + i % 2 * 2 + i % 4 / 2] = integers[i];
    }
  }

  // One copy, whatever x's type is.
  __attribute__((noinline)) static void run(int rows, const char* x, const char* panel, int64_t depth, bool, float* out) {
    run_up_to<kRows>(rows, reinterpret_cast<const X*>(x), reinterpret_cast<const uint8_t*>(panel), depth, out);
  }

  // As many rows as the next power of two. Those past `rows` hold whatever x's memory does; nobody reads their sums.
  template <int N>
  static void run_up_to(int rows, const X* x, const uint8_t* panel, int64_t depth, float* out) {
    if constexpr (N > 1) {
      if (rows <= N / 2) return run_up_to<N / 2>(rows, x, panel, depth, out);
    }
    multiply<N>(x, panel, depth, out);
  }

  // N rows of x times a panel -> out [N, 32].
  template <int N>
  static void multiply(const X* x, const uint8_t* panel, int64_t depth, float* out) {
    const int64_t blocks = depth / kBlock;
    Vec total[N][kPanelVecs] = {};
    for (int64_t block = 0; block < blocks; ++block) {
      prefetch(Form::codes(panel, block));
#pragma GCC unroll 8
      for (int v = 0; v < kPanelVecs; ++v) {
        IVec quads[kQuads];
        Form::Code::load(Form::codes(panel, block), v * kLanes, quads);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          total[n][v] = add_block(total[n][v], quads, x[n * blocks + block], panel, block, v * kLanes);
        }
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
      for (int v = 0; v < kPanelVecs; ++v) store(out + n * kPanel + v * kLanes, total[n][v]);
    }
  }

  OCTAVO_INLINE static Vec add_block(Vec total, const IVec quads[kQuads], const X& x, const uint8_t* panel, int64_t block,
                                     int64_t column) {
    constexpr int kPart = kQuads / Form::kSplit;
#pragma GCC unroll 2
    for (int part = 0; part < Form::kSplit; ++part) {
      IVec dot = IVec{} + x.start[part];
#pragma GCC unroll 8
      for (int quad = part * kPart; quad < (part + 1) * kPart; ++quad) {
        dot = Dot<Form::kBits>::add(dot, quads[quad], x.quads + quad * kWords);
      }
      total = add_dot(total, dot, Form::scale(panel, block, column, part), splat(x.scale));
    }
    if constexpr (Form::kMinimum) total = fmadd(Form::minimum(panel, block, column), splat(x.sum), total);
    return total;
  }

  OCTAVO_INLINE static Vec add_dot(Vec total, IVec dot, Vec scale, Vec x_scale) {
    return fmadd(__builtin_convertvector(dot, Vec), scale * x_scale, total);
  }

  OCTAVO_INLINE static void prefetch(const uint8_t* codes) {
#pragma GCC unroll 32
    for (int64_t line = 0; line < Form::kBlockBytes; line += 64) __builtin_prefetch(codes + kPrefetchBytes + line);
  }
};

}  // namespace octavo::OCTAVO_ISA
