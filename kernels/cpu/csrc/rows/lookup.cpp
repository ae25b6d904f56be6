// Embedding rows.
#include <atomic>

#include "base/simd.h"
#include "base/table.h"

namespace octavo::OCTAVO_ISA {
namespace {

OCTAVO_INLINE int64_t id_at(const EmbeddingArgs& a, int64_t i) {
  return a.wide_ids ? static_cast<const int64_t*>(a.ids)[i] : static_cast<const int32_t*>(a.ids)[i];
}

void copy_row(const EmbeddingArgs& a, int64_t i, int64_t id) {
  const int64_t element = a.dtype == DType::f32 ? 4 : 2, bytes = a.size * element;
  char* out = static_cast<char*>(a.out) + i * bytes;
  if (a.packed) {
    unpack_row(*a.packed, id, out);
  } else {
    std::memcpy(out, static_cast<const char*>(a.table.data) + id * a.table.stride * element, bytes);
  }
}

template <typename T>
void scale_row(T* x, int64_t size, float scale) {
  const Vec factor = splat(scale);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(x + i, load(x + i) * factor);
  if (i < size) store_some(x + i, load_some(x + i, size - i) * factor, size - i);
}

void scale_row(const EmbeddingArgs& a, int64_t i) {
  OCTAVO_DISPATCH(a.dtype, T, scale_row(static_cast<T*>(a.out) + i * a.size, a.size, a.scale));
}

}  // namespace

bool embedding(const EmbeddingArgs& a) {
  constexpr int64_t kUnpacking = 8;  // what it costs to find and decode a number, in copied ones
  std::atomic<bool> valid{true};
  parallel_rows(a.num_ids, (a.packed ? kUnpacking : 1) * a.size, [&](int64_t i) {
    const int64_t id = id_at(a, i);
    if (id < 0 || id >= a.vocab_size) {
      valid.store(false, std::memory_order_relaxed);
    } else {
      copy_row(a, i, id);
      if (a.scale != 1.0f) scale_row(a, i);
    }
  });
  return valid;
}

}  // namespace octavo::OCTAVO_ISA
