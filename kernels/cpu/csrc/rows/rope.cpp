// Rotary position embedding in place, and the write of keys and values to the paged cache.
#include <atomic>

#include "attention/kv_tiles.h"
#include "base/simd.h"
#include "base/table.h"

namespace octavo::OCTAVO_ISA {
namespace {

template <typename T>
void rotate(T* x, const float* cos_sin, int64_t half) {
  const float *cos = cos_sin, *sin = cos_sin + half;
  T *first = x, *second = x + half;
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const Vec a = load(first + i), b = load(second + i), c = load(cos + i), s = load(sin + i);
    store(first + i, fmadd(a, c, -(b * s)));
    store(second + i, fmadd(b, c, a * s));
  }
  for (; i < half; ++i) {
    const float a = to_float(first[i]), b = to_float(second[i]);
    first[i] = from_float<T>(a * cos[i] - b * sin[i]);
    second[i] = from_float<T>(b * cos[i] + a * sin[i]);
  }
}

template <typename C, typename T>
void copy(C* to, const T* from, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(to + i, load(from + i));
  for (; i < size; ++i) to[i] = from_float<C>(to_float(from[i]));
}

template <typename T>
void rotate_heads(void* x, const int64_t* stride, int64_t token, int64_t heads, const float* cos_sin, int64_t half) {
  T* row = static_cast<T*>(x) + token * stride[0];
  for (int64_t head = 0; head < heads; ++head) rotate(row + head * stride[1], cos_sin, half);
}

template <typename C, typename T>
void write_heads(void* cache, const int64_t* cache_stride, int64_t slot, const void* x, const int64_t* stride,
                 int64_t token, const RopeArgs& a) {
  C* to = static_cast<C*>(cache) + slot / a.block_size * cache_stride[0] + slot % a.block_size * cache_stride[2];
  const T* from = static_cast<const T*>(x) + token * stride[0];
  for (int64_t head = 0; head < a.num_kv_heads; ++head) {
    copy(to + head * cache_stride[1], from + head * stride[1], a.head_dim);
  }
}

#if defined(OCTAVO_AMX)
// body(a head's keys, its values, the head, the token's place there)
template <typename Body>
void for_each_kv_head(const RopeArgs& a, int64_t token, const Body& body) {
  const int64_t block = a.slots[token] / a.block_size, offset = a.slots[token] % a.block_size;
  bf16* keys = static_cast<bf16*>(a.k_cache) + block * a.k_cache_stride[0];
  bf16* values = static_cast<bf16*>(a.v_cache) + block * a.v_cache_stride[0];
  for (int64_t head = 0; head < a.num_kv_heads; ++head) {
    body(keys + head * a.k_cache_stride[1], values + head * a.v_cache_stride[1], head, offset);
  }
}

void expect_tiles(const RopeArgs& a, int64_t token) {
  if (token > 0 && a.slots[token] == a.slots[token - 1] + 1) return;  // of a prompt: mostly the same lines
  for_each_kv_head(a, token, [&](bf16* keys, bf16* values, int64_t, int64_t offset) {
    expect_key(keys, offset, a.head_dim);
    expect_value(values, offset, a.head_dim);
  });
}

void write_tiles(const RopeArgs& a, int64_t token) {
  const bf16* k = static_cast<const bf16*>(a.k) + token * a.k_stride[0];
  const bf16* v = static_cast<const bf16*>(a.v) + token * a.v_stride[0];
  for_each_kv_head(a, token, [&](bf16* keys, bf16* values, int64_t head, int64_t offset) {
    write_key(keys, offset, k + head * a.k_stride[1], a.head_dim);
    write_value(values, offset, v + head * a.v_stride[1], a.head_dim);
  });
}
#endif

template <typename T>
bool rope_token(const RopeArgs& a, int64_t token) {
  const int64_t position = a.positions[token], slot = a.slots[token];
  if (position < 0 || position >= a.num_positions || slot >= a.num_blocks * a.block_size) return false;
  const float* cos_sin = a.cos_sin + position * a.rotary_dim;
#if defined(OCTAVO_AMX)
  if (slot >= 0 && in_tiles(a)) expect_tiles(a, token);
#endif
  rotate_heads<T>(a.q, a.q_stride, token, a.num_heads, cos_sin, a.rotary_dim / 2);
  rotate_heads<T>(a.k, a.k_stride, token, a.num_kv_heads, cos_sin, a.rotary_dim / 2);
  if (slot < 0) return true;
#if defined(OCTAVO_AMX)
  if (in_tiles(a)) {
    write_tiles(a, token);
    return true;
  }
#endif
  OCTAVO_DISPATCH(a.cache_dtype, C, {
    write_heads<C, T>(a.k_cache, a.k_cache_stride, slot, a.k, a.k_stride, token, a);
    write_heads<C, T>(a.v_cache, a.v_cache_stride, slot, a.v, a.v_stride, token, a);
  });
  return true;
}

}  // namespace

bool rope_and_cache(const RopeArgs& a) {
  std::atomic<bool> valid{true};
  constexpr int64_t kTileWrite = 8;  // what writing a number into a tile costs, for it lies on a line of its own
  const int64_t written = 2 * a.num_kv_heads * (in_tiles(a) ? kTileWrite : 1);
  const int64_t elements = (a.num_heads + written) * a.head_dim;
  OCTAVO_DISPATCH(a.dtype, T, parallel_rows(a.num_tokens, elements, [&](int64_t token) {
                    if (!rope_token<T>(a, token)) valid.store(false, std::memory_order_relaxed);
                  }));
  return valid;
}

}  // namespace octavo::OCTAVO_ISA
