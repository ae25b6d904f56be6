// Vectors of floats for the instruction set this translation unit is compiled for.
//
// Every kernel source is compiled once per instruction set, in a namespace of its own (OCTAVO_ISA), with contraction off:
// a multiply-add is fused exactly where `fmadd` says so, hence results do not depend on how loops were unrolled.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/dtypes.h"
#include "base/thread_pool.h"

#define OCTAVO_INLINE inline __attribute__((always_inline))

namespace octavo::OCTAVO_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IVec __attribute__((vector_size(kLanes * 4)));
typedef uint16_t HalfVec __attribute__((vector_size(kLanes * 2)));

OCTAVO_INLINE Vec splat(float x) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(x);
#elif defined(__AVX2__)
  return _mm256_set1_ps(x);
#else
  return Vec{x, x, x, x};
#endif
}
OCTAVO_INLINE IVec as_int(Vec x) { return reinterpret_cast<IVec>(x); }
OCTAVO_INLINE Vec as_float(IVec x) { return reinterpret_cast<Vec>(x); }

// a > b ? a : b, so b where one is a NaN; compilers make two instructions of the comparison.
OCTAVO_INLINE Vec max(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// a < b ? a : b
OCTAVO_INLINE Vec min(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

// a * b + c, rounded once where the processor has fused multiply-add.
OCTAVO_INLINE Vec fmadd(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

OCTAVO_INLINE float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

OCTAVO_INLINE uint32_t to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

// ---- one element to and from float

OCTAVO_INLINE float to_float(float x) { return x; }
OCTAVO_INLINE float to_float(bf16 x) { return from_bits(static_cast<uint32_t>(x.bits) << 16); }

OCTAVO_INLINE float to_float(f16 x) {
  // The exponent is moved by a product, which also renormalizes subnormals.
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  const float scaled = from_bits(magnitude) * 0x1p112f;
  return from_bits(to_bits(scaled) | special | static_cast<uint32_t>(x.bits & 0x8000) << 16);
}

template <typename T>
T from_float(float x);
template <>
OCTAVO_INLINE float from_float<float>(float x) {
  return x;
}
template <>
OCTAVO_INLINE bf16 from_float<bf16>(float x) {
  const uint32_t bits = to_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
template <>
OCTAVO_INLINE f16 from_float<f16>(float x) {
  const uint32_t bits = to_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00)};
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves its value, rounded, in the low bits
    return {static_cast<uint16_t>(sign | (to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000u))};
  }
  return {static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfff + (magnitude >> 13 & 1)) >> 13))};
}

// As it is where types are equal.
template <typename T, typename From>
OCTAVO_INLINE T converted(From x) {
  if constexpr (std::is_same_v<T, From>) {
    return x;
  } else {
    return from_float<T>(to_float(x));
  }
}

// ---- vectors from and to memory, any alignment

OCTAVO_INLINE Vec load(const float* p) {
  Vec x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

OCTAVO_INLINE Vec load(const bf16* p) {
  HalfVec half;
  std::memcpy(&half, p, sizeof half);
#if defined(__AVX512F__)
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(half)), 16));
#elif defined(__AVX2__)
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(half)), 16));
#else
  return as_float(__builtin_convertvector(half, IVec) << 16);
#endif
}

#if defined(__AVX2__)
#define OCTAVO_INLINE_HALF OCTAVO_INLINE
#else
#define OCTAVO_INLINE_HALF inline __attribute__((noinline))  // half precision by hand is too long to stand everywhere
#endif

OCTAVO_INLINE_HALF Vec load(const f16* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  Vec x;
  for (int i = 0; i < kLanes; ++i) x[i] = to_float(p[i]);
  return x;
#endif
}

OCTAVO_INLINE void store(float* p, Vec x) { std::memcpy(p, &x, sizeof x); }

OCTAVO_INLINE void store(bf16* p, Vec x) {
#if defined(__AVX512BF16__)
  const __m256bh half = _mm512_cvtneps_pbh(x);
  std::memcpy(p, &half, sizeof half);
#else
  const IVec bits = as_int(x);
  const IVec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const IVec quiet = (bits >> 16) | 0x40;
  const IVec result = x == x ? rounded : quiet;
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(result)));
#else
  const HalfVec half = __builtin_convertvector(result, HalfVec);
  std::memcpy(p, &half, sizeof half);
#endif
#endif
}

OCTAVO_INLINE_HALF void store(f16* p, Vec x) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < kLanes; ++i) p[i] = from_float<f16>(x[i]);
#endif
}

// The first `count` (< kLanes) elements; the other lanes are zero, or left alone in memory.
template <typename T>
OCTAVO_INLINE Vec load_some(const T* p, int64_t count) {
  T whole[kLanes] = {};
  std::memcpy(whole, p, count * sizeof(T));
  return load(whole);
}

template <typename T>
OCTAVO_INLINE void store_some(T* p, Vec x, int64_t count) {
  T whole[kLanes];
  store(whole, x);
  std::memcpy(p, whole, count * sizeof(T));
}

// ---- reductions over lanes, always in the same order

OCTAVO_INLINE float sum(Vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(x);
#elif defined(__AVX2__)
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return two[0] + two[1];
#else
  return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}

OCTAVO_INLINE float max(Vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(x);
#elif defined(__AVX2__)
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return two[0] > two[1] ? two[0] : two[1];
#else
  const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
#endif
}

// Whether a lane of either is a NaN.
OCTAVO_INLINE bool any_nan(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q)) != 0;
#else
  const IVec strange = (a != a) | (b != b);
  return (strange[0] | strange[1] | strange[2] | strange[3]) != 0;
#endif
}

// 0, 1, 2, ... From memory: built in place it costs an instruction a lane.
OCTAVO_INLINE IVec lane_numbers() {
  alignas(64) static const int32_t kNumbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  IVec lanes;
  std::memcpy(&lanes, kNumbers, sizeof lanes);
  return lanes;
}

// ---- functions

// e^x, to about an ulp; 0 below -87.3 (so for -inf), infinity above 88.7.
OCTAVO_INLINE Vec exp(Vec x) {
  const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
  const Vec clamped = min(max(x, splat(-87.5f)), splat(88.8f));
  const Vec shifted = fmadd(clamped, splat(1.44269504f), magic);
  const Vec n = shifted - magic;
  Vec r = fmadd(n, splat(-0.693145752f), clamped);
  r = fmadd(n, splat(-1.42860677e-6f), r);
  Vec y = splat(1.38888889e-3f);
  y = fmadd(y, r, splat(8.33333333e-3f));
  y = fmadd(y, r, splat(4.16666667e-2f));
  y = fmadd(y, r, splat(1.66666667e-1f));
  y = fmadd(y, r, splat(0.5f));
  y = fmadd(y, r, splat(1.0f));
  y = fmadd(y, r, splat(1.0f));
#if defined(__AVX512F__)
  y = _mm512_scalef_ps(y, n);
#else
  // 2^n in two factors, as 2^128 alone is infinite.
  const IVec power = as_int(shifted) - as_int(magic);
  const IVec half = power >> 1;
  y = y * as_float((half + 127) << 23) * as_float((power - half + 127) << 23);
#endif
  y = x < splat(-87.3f) ? Vec{} : y;
  return x != x ? x : y;
}

OCTAVO_INLINE Vec tanh(Vec x) {
  const Vec one = splat(1.0f), e = exp(min(max(x, splat(-10.0f)), splat(10.0f)) * splat(2.0f));
  return (e - one) / (e + one);
}

#if defined(__AVX512F__)
// 2^x to 3e-6, which is far below the rounding to 16 bits; lanes not in `mask` are zero.
OCTAVO_INLINE Vec power_of_two(Vec x, __mmask16 mask = 0xffff) {
  const Vec r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  Vec y = splat(1.35341679e-2f);
  y = fmadd(y, r, splat(5.20114628e-2f));
  y = fmadd(y, r, splat(2.41442754e-1f));
  y = fmadd(y, r, splat(6.93003836e-1f));
  y = fmadd(y, r, splat(1.00000259f));
  return _mm512_maskz_scalef_ps(mask, y, x);
}
#endif

// ---- memory

// A plain array, uninitialized. Not std::vector: its functions, compiled here for one instruction set, could be linked into
// the kernels of another.
template <typename T>
class Array {
 public:
  explicit Array(int64_t size) : data_(static_cast<T*>(std::malloc(static_cast<size_t>(size > 0 ? size : 1) * sizeof(T)))) {
    if (!data_) std::abort();
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { std::free(data_); }
  T* get() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_;
};

// Ask for the cache lines of `bytes` (a multiple of 64). Few instructions a line: what waits for memory must not keep the
// processor from looking at the work that follows.
OCTAVO_INLINE void prefetch_lines(const char* from, int64_t bytes) {
  for (; bytes >= 1024; from += 1024, bytes -= 1024) {
#pragma GCC unroll 16
    for (int line = 0; line < 16; ++line) __builtin_prefetch(from + line * 64);
  }
  for (; bytes > 0; from += 64, bytes -= 64) __builtin_prefetch(from);
}

// Ask for a cache line that is going to be changed.
OCTAVO_INLINE void prefetch_to_write(const void* line) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" ::"m"(*static_cast<const char*>(line)));  // the compiler's own prefetch asks for reading
#else
  __builtin_prefetch(line, 1);
#endif
}

// ---- parallel loops

// body(task) for tasks 0 .. tasks - 1 on the pool's threads, or here if the whole is too small to share.
template <typename Body>
void parallel_for(int64_t tasks, bool worth_it, const Body& body) {
  if (!worth_it) {
    for (int64_t task = 0; task < tasks; ++task) body(task);
    return;
  }
  run_tasks(
      tasks, [](void* context, int64_t task) { (*static_cast<const Body*>(context))(task); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

// Rows in runs, shared out when they hold enough elements. body(row)
template <typename Body>
void parallel_rows(int64_t rows, int64_t elements_per_row, const Body& body) {
  constexpr int64_t kElementsPerTask = 16384;
  const int64_t run = elements_per_row >= kElementsPerTask ? 1 : kElementsPerTask / (elements_per_row > 0 ? elements_per_row : 1);
  const int64_t tasks = (rows + run - 1) / run;
  parallel_for(tasks, tasks > 1, [&](int64_t task) {
    const int64_t end = (task + 1) * run < rows ? (task + 1) * run : rows;
    for (int64_t row = task * run; row < end; ++row) body(row);
  });
}

}  // namespace octavo::OCTAVO_ISA
