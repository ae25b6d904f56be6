// Embedding rows and the largest logit.
#include <atomic>
#include <limits>

#include "simd.h"
#include "table.h"

namespace octavo::OCTAVO_ISA {
namespace {

OCTAVO_INLINE int64_t id_at(const EmbeddingArgs& a, int64_t i) {
  return a.wide_ids ? static_cast<const int64_t*>(a.ids)[i] : static_cast<const int32_t*>(a.ids)[i];
}

void copy_row(const EmbeddingArgs& a, int64_t i, int64_t id) {
  const int64_t element = a.dtype == DType::f32 ? 4 : 2, bytes = a.size * element;
  char* out = static_cast<char*>(a.out) + i * bytes;
  if (a.packed && a.format == Format::dense) {
    unpack_row({a.dtype, out, a.weight.data, id, a.size});
  } else if (a.packed) {
    unpack_blocks_row(a.format, {a.dtype, out, a.weight.data, id, a.size});
  } else {
    std::memcpy(out, static_cast<const char*>(a.weight.data) + id * a.weight.stride * element, bytes);
  }
}

// A NaN counts as the largest value, as torch has it.
OCTAVO_INLINE bool beats(float x, float best) { return x > best || (x != x && best == best); }

int64_t argmax_row(const float* x, int64_t size) {
  Vec best = splat(-std::numeric_limits<float>::infinity());
  IVec where = lane_numbers(), here = lane_numbers();
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Vec v = load(x + i);
    const IVec better = (v > best) | ((v != v) & (best == best));
    best = better ? v : best;
    where = better ? here : where;
    here += kLanes;
  }
  const int64_t lanes = size < kLanes ? 0 : kLanes;
  int64_t winner = lanes ? where[0] : 0;
  float top = lanes ? best[0] : x[0];
  for (int64_t lane = 1; lane < lanes; ++lane) {
    const bool tied = best[lane] == top || (best[lane] != best[lane] && top != top);
    if (beats(best[lane], top) || (tied && where[lane] < winner)) {
      top = best[lane];
      winner = where[lane];
    }
  }
  for (; i < size; ++i) {
    if (beats(x[i], top)) {
      top = x[i];
      winner = i;
    }
  }
  return winner;
}

}  // namespace

bool embedding(const EmbeddingArgs& a) {
  std::atomic<bool> valid{true};
  parallel_rows(a.num_ids, a.size, [&](int64_t i) {
    const int64_t id = id_at(a, i);
    if (id < 0 || id >= a.vocab_size) {
      valid.store(false, std::memory_order_relaxed);
    } else {
      copy_row(a, i, id);
    }
  });
  return valid;
}

void argmax(const float* logits, int64_t stride, int64_t rows, int64_t vocab_size, int64_t* out) {
  parallel_rows(rows, vocab_size, [&](int64_t row) { out[row] = argmax_row(logits + row * stride, vocab_size); });
}

}  // namespace octavo::OCTAVO_ISA
