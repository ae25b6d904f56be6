// Attention in float32 for every pair of types: keys and values are widened, tile after tile, and each split reduced with an
// online softmax over its tiles of kTileKeys keys.
#pragma once

#include "attention/plan.h"
#include "attention/tile.h"

namespace octavo::OCTAVO_ISA {

class DenseAttention {
 public:
  static constexpr int64_t kRowMultiple = 1;
  static int64_t tile_rows(const Problem&) { return 32; }

  DenseAttention(const Problem& problem, int64_t max_rows)
      : p_(problem),
        a_(problem.args),
        width_(problem.width),
        queries_size_(round(max_rows * a_.head_dim)),
        scores_size_(round(max_rows * kTileKeys)),
        scales_size_(round(max_rows)) {}

  int64_t bytes() const {
    return (queries_size_ + round(a_.head_dim * kTileKeys) + round(kTileKeys * width_) + scores_size_ + scales_size_) *
           static_cast<int64_t>(sizeof(float));
  }

  void load(const Tile& tile, float* memory) const {
    OCTAVO_DISPATCH(a_.dtype, T, {
      const T* q = static_cast<const T*>(a_.q) + tile.first_query * a_.q_stride[0] + tile.kv_head * p_.group * a_.q_stride[1];
      for (int64_t row = 0; row < tile.queries * p_.group; ++row) {
        const T* from = q + row / p_.group * a_.q_stride[0] + row % p_.group * a_.q_stride[1];
        widen(from, memory + row * a_.head_dim, a_.head_dim, a_.head_dim);
      }
    });
  }

  void reduce(const TileSplit& split, const TileSplit&, float* memory, const Partial& part) const {
    OCTAVO_DISPATCH(a_.cache_dtype, C, reduce_of<C>(*split.tile, split.number, memory, part));
  }

 private:
  static int64_t round(int64_t floats) { return (floats + 15) / 16 * 16; }

  template <typename C>
  void reduce_of(const Tile& tile, int64_t split, float* memory, const Partial& part) const {
    const Keys keys = p_.seen_from(tile, split);
    clear(part, tile.queries * p_.group);
    Located<C> now, next;
    int64_t base = keys.from / kTileKeys * kTileKeys;
    locate(tile, base, keys, now);
    for (; base < keys.to; base += kTileKeys, now = next) {
      // Beyond the split too: this thread most likely goes on there.
      locate(tile, base + kTileKeys, {base + kTileKeys, p_.seen_from(tile).to}, next);
      prefetch(next);
      reduce_tile<C>(tile, base, now, memory, part);
    }
  }

  void clear(const Partial& part, int64_t rows) const {
    for (int64_t row = 0; row < rows; ++row) {
      part.maximum[row] = kMinusInfinity;
      part.total[row] = 0.0f;
    }
    for (int64_t i = 0; i < rows * width_; ++i) part.acc[i] = 0.0f;
  }

  // Where the keys and values of one tile are: entries from .. to - 1. Elsewhere `key` repeats one of them, so that whole
  // tiles can be scored; those scores are masked.
  template <typename C>
  struct Located {
    const C *key[kTileKeys], *value[kTileKeys];
    int from, to;
  };

  template <typename C>
  void locate(const Tile& tile, int64_t base, const Keys& keys, Located<C>& at) const {
    at.from = static_cast<int>(keys.from > base ? keys.from - base : 0);
    at.to = static_cast<int>(keys.to - base < kTileKeys ? keys.to > base ? keys.to - base : 0 : kTileKeys);
    if (at.from >= at.to) return;
    int64_t index = (base + at.from) / a_.block_size, offset = (base + at.from) % a_.block_size;
    const C *key = nullptr, *value = nullptr;
    for (int i = at.from; i < at.to; ++i) {
      if (!key || offset == a_.block_size) {
        if (key) ++index, offset = 0;
        const int64_t block = p_.block_of(tile.request, index);
        key = static_cast<const C*>(a_.k_cache) + block * a_.k_cache_stride[0] + tile.kv_head * a_.k_cache_stride[1];
        value = static_cast<const C*>(a_.v_cache) + block * a_.v_cache_stride[0] + tile.kv_head * a_.v_cache_stride[1];
      }
      at.key[i] = key + offset * a_.k_cache_stride[2];
      at.value[i] = value + offset * a_.v_cache_stride[2];
      ++offset;
    }
    for (int i = 0; i < at.from; ++i) at.key[i] = at.key[at.from];
    for (int i = at.to; i < kTileKeys; ++i) at.key[i] = at.key[at.from];
  }

  template <typename C>
  void prefetch(const Located<C>& at) const {
    constexpr int64_t kLine = 64 / sizeof(C);
    for (int i = at.from; i < at.to; ++i) {
      for (int64_t d = 0; d < a_.head_dim; d += kLine) __builtin_prefetch(at.key[i] + d);
    }
    for (int i = at.from; i < at.to; ++i) {
      for (int64_t d = 0; d < a_.head_dim; d += kLine) __builtin_prefetch(at.value[i] + d);
    }
  }

  template <typename C>
  void reduce_tile(const Tile& tile, int64_t base, const Located<C>& at, float* memory, const Partial& part) const {
    const int64_t rows = tile.queries * p_.group;
    float* keys = memory + queries_size_;
    float* values = keys + round(a_.head_dim * kTileKeys);
    float* scores = values + round(kTileKeys * width_);
    float* scales = scores + scores_size_;
    for (int i = 0; i < kTileKeys; i += kLanes) transpose_keys(at.key + i, keys + i, a_.head_dim);
    for (int i = at.from; i < at.to; ++i) widen(at.value[i], values + i * width_, a_.head_dim, width_);
    score(memory, keys, scores, rows);
    softmax(tile, base, at.from, at.to, scores, scales, part);
    accumulate(scores, values, scales, part.acc, rows, at.from, at.to);
  }

  void score(const float* queries, const float* keys, float* scores, int64_t rows) const {
    int64_t row = 0;
    for (; row + kScoreRows <= rows; row += kScoreRows) score_some<kScoreRows>(queries, keys, scores, row);
    if constexpr (kScoreRows > 4) {
      for (; row + 4 <= rows; row += 4) score_some<4>(queries, keys, scores, row);
    }
    if constexpr (kScoreRows > 3) {
      for (; row + 3 <= rows; row += 3) score_some<3>(queries, keys, scores, row);
    }
    for (; row < rows; ++row) score_some<1>(queries, keys, scores, row);
  }

  template <int N>
  void score_some(const float* queries, const float* keys, float* scores, int64_t row) const {
    score_rows<N>(queries + row * a_.head_dim, keys, scores + row * kTileKeys, a_.head_dim);
  }

  void softmax(const Tile& tile, int64_t base, int from, int to, float* scores, float* scales, const Partial& part) const {
    const ScoreRule rule{a_.scale, a_.soft_cap};
    for (int64_t row = 0; row < tile.queries * p_.group; ++row) {
      const Keys seen = p_.seen_by(tile, row / p_.group);
      const int64_t start = seen.from - base, end = seen.to - base;
      const int first = static_cast<int>(start > from ? start < kTileKeys ? start : kTileKeys : from);
      const int last = static_cast<int>(end < to ? end > 0 ? end : 0 : to);
      scales[row] = softmax_row(scores + row * kTileKeys, first, last, rule, part.maximum + row, part.total + row);
    }
  }

  void accumulate(const float* weights, const float* values, const float* scales, float* acc, int64_t rows, int from, int to) const {
    int64_t row = 0;
    for (; row + kValueRows <= rows; row += kValueRows) accumulate_some<kValueRows>(weights, values, scales, acc, row, from, to);
    if constexpr (kValueRows > 3) {
      for (; row + 3 <= rows; row += 3) accumulate_some<3>(weights, values, scales, acc, row, from, to);
    }
    for (; row < rows; ++row) accumulate_some<1>(weights, values, scales, acc, row, from, to);
  }

  template <int N>
  void accumulate_some(const float* weights, const float* values, const float* scales, float* acc, int64_t row, int from,
                       int to) const {
    add_value_rows<N>(weights + row * kTileKeys, values, scales + row, acc + row * width_, width_, from, to);
  }

  const Problem& p_;
  const AttentionArgs& a_;
  const int64_t width_, queries_size_, scores_size_, scales_size_;
};

}  // namespace octavo::OCTAVO_ISA
