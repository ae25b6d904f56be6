// Attention in float32 for every pair of types: each split is reduced with an online softmax over its tiles of kTileKeys keys.
//
// Each row's result is a function of its own query and of the keys it sees, reduced in an order that key positions alone
// fix; the rows beside it and masked keys add exact zeros. That makes attention independent of batching and chunking.
//
// A tile's rows are worked off in blocks: scores, weights and weighted sums of a block stay in registers or the nearest
// cache. A few rows take keys and values as the KV cache has them, so that these pass through the processor once; more rows
// share a widened copy.
#pragma once

#include <utility>

#include "attention/keys.h"
#include "attention/plan.h"
#include "attention/softmax.h"
#include "attention/values.h"

namespace octavo::OCTAVO_ISA {

class DenseAttention {
 public:
  static constexpr int64_t kRowMultiple = 1;

  // Rows of a tile share copies of keys and values, as long as there are tiles enough for all threads.
  static int64_t tile_rows(const Problem& problem) {
    constexpr int64_t kTilesPerThread = 8, kMostRows = kKeysInLanes ? 32 : 120, kLeastRows = 32;
    const AttentionArgs& a = problem.args;
    const int64_t rows = a.query_starts[a.num_requests] * a.num_heads / (num_threads() * kTilesPerThread);
    return rows > kMostRows ? kMostRows : rows < kLeastRows ? kLeastRows : rows;
  }

  DenseAttention(const Problem& problem, int64_t max_rows)
      : p_(problem), a_(problem.args), width_(problem.width), queries_size_(max_rows * width_), tile_size_(kTileKeys * width_) {}

  int64_t bytes() const { return (queries_size_ + 2 * tile_size_ + kBlockRows * kTileKeys) * static_cast<int64_t>(sizeof(float)); }

  void load(const Tile& tile, float* memory) const {
    OCTAVO_DISPATCH(a_.dtype, T, {
      const T* q = static_cast<const T*>(a_.q) + tile.first_query * a_.q_stride[0] + tile.kv_head * p_.group * a_.q_stride[1];
      for (int64_t row = 0; row < tile.queries * p_.group; ++row) {
        const T* from = q + row / p_.group * a_.q_stride[0] + row % p_.group * a_.q_stride[1];
        widen_row(from, memory + row * width_, a_.head_dim);
      }
    });
  }

  void reduce(const TileSplit& split, const TileSplit& next, float* memory, const Partial& part) const {
    OCTAVO_DISPATCH(a_.cache_dtype, C, reduce_of<C>(split, next, memory, part));
  }

 private:
  static constexpr int64_t kDirectRows = kKeysInLanes ? 6 : 9;  // rows that take keys and values of 16 bits as the cache has them

  struct Memory {
    float *queries, *keys, *values, *scores;
  };

  Memory divide(float* memory) const {
    float* keys = memory + queries_size_;
    return {memory, keys, keys + tile_size_, keys + 2 * tile_size_};
  }

  // Where the keys and values of one tile are: entries from .. to - 1. Elsewhere they repeat one of them, so that keys can be
  // scored in fours; those scores are masked.
  template <typename C>
  struct Located {
    const C *key[kTileKeys], *value[kTileKeys];
    int64_t base;
    int from, to;
  };

  template <typename C>
  void reduce_of(const TileSplit& split, const TileSplit& next_split, float* memory, const Partial& part) const {
    const Tile& tile = *split.tile;
    const Memory m = divide(memory);
    const Keys keys = p_.seen_from(tile, split.number);
    clear(part, tile.queries * p_.group);
    Located<C> located[2], *now = located, *next = located + 1;
    locate(tile, keys.from / kTileKeys * kTileKeys, keys, *now);
    for (bool last = false; !last; std::swap(now, next)) {
      last = now->base + kTileKeys >= keys.to;
      if (!last) {
        locate(tile, now->base + kTileKeys, keys, *next);
      } else if (next_split.tile) {
        const Keys coming = p_.seen_from(*next_split.tile, next_split.number);
        locate(*next_split.tile, coming.from / kTileKeys * kTileKeys, coming, *next);
      }
      reduce_tile(tile, *now, last && !next_split.tile ? nullptr : next, m, part);
    }
    for (int64_t row = 0; row < tile.queries * p_.group; ++row) part.maximum[row] *= kLn2;  // exponents of two -> natural units
  }

  void clear(const Partial& part, int64_t rows) const {
    for (int64_t row = 0; row < rows; ++row) {
      part.maximum[row] = kMinusInfinity;
      part.total[row] = 0.0f;
    }
    for (int64_t i = 0; i < rows * width_; i += kLanes) store(part.acc + i, Vec{});
  }

  template <typename C>
  void locate(const Tile& tile, int64_t base, const Keys& keys, Located<C>& at) const {
    at.base = base;
    at.from = static_cast<int>(keys.from > base ? keys.from - base : 0);
    at.to = static_cast<int>(keys.to - base < kTileKeys ? keys.to - base : kTileKeys);
    int64_t index = (base + at.from) / a_.block_size, offset = (base + at.from) % a_.block_size;
    for (int i = at.from; i < at.to; ++index, offset = 0) {
      const int64_t block = p_.block_of(tile.request, index), left = a_.block_size - offset;
      const int end = at.to - i < left ? at.to : i + static_cast<int>(left);
      const C* key = place(a_.k_cache, a_.k_cache_stride, block, tile.kv_head, offset, static_cast<C*>(nullptr));
      const C* value = place(a_.v_cache, a_.v_cache_stride, block, tile.kv_head, offset, static_cast<C*>(nullptr));
      for (; i < end; ++i, key += a_.k_cache_stride[2], value += a_.v_cache_stride[2]) at.key[i] = key, at.value[i] = value;
    }
    for (int i = 0; i < at.from; ++i) at.key[i] = at.key[at.from], at.value[i] = at.value[at.from];
    for (int i = at.to; i < kTileKeys; ++i) at.key[i] = at.key[at.from], at.value[i] = at.value[at.from];
  }

  template <typename C>
  static const C* place(const void* cache, const int64_t* stride, int64_t block, int64_t head, int64_t offset, const C*) {
    return static_cast<const C*>(cache) + block * stride[0] + head * stride[1] + offset * stride[2];
  }

  template <typename C>
  bool direct(int64_t rows) const {
    return a_.head_dim == width_ && (rows <= kDirectRows || (sizeof(C) == 4 && !kKeysInLanes));
  }

  // `ahead`: the tile that comes next, if one does.
  template <typename C>
  void reduce_tile(const Tile& tile, const Located<C>& at, const Located<C>* ahead, const Memory& m, const Partial& part) const {
    const bool as_it_lies = direct<C>(tile.queries * p_.group);
    if (ahead && (kKeysInLanes || !as_it_lies)) {
      for (int i = at.from; i < at.to; ++i) prefetch_numbers(ahead->key[i], a_.head_dim);
    }
    if (kKeysInLanes || !as_it_lies) copy_keys(at.key, m.keys, a_.head_dim, at.from, at.to);
    if (as_it_lies) return reduce_rows(tile, at, ahead, m, part);
    Located<float> copy;
    copy.base = at.base, copy.from = at.from, copy.to = at.to;
    for (int i = 0; i < kTileKeys; ++i) copy.key[i] = m.keys + i * width_, copy.value[i] = m.values + i * width_;
    for (int i = at.from; i < at.to; ++i) {
      if (ahead) prefetch_numbers(ahead->value[i], a_.head_dim);
      widen_row(at.value[i], m.values + i * width_, a_.head_dim);
    }
    reduce_rows(tile, copy, static_cast<const Located<float>*>(nullptr), m, part);
  }

  template <typename C>
  void reduce_rows(const Tile& tile, const Located<C>& at, const Located<C>* ahead, const Memory& m, const Partial& part) const {
    const int64_t rows = tile.queries * p_.group;
    for (int64_t row = 0; row < rows; ahead = nullptr) {  // the first rows ask for what is read next
      switch (rows_of_block(rows - row)) {
#define OCTAVO_BLOCK(n) case n: reduce_block<n>(tile, at, ahead, row, m, part); row += n; break;
        OCTAVO_ROWS(OCTAVO_BLOCK)
#undef OCTAVO_BLOCK
      }
    }
  }

  template <int N, typename C>
  void reduce_block(const Tile& tile, const Located<C>& at, const Located<C>* ahead, int64_t row, const Memory& m,
                    const Partial& part) const {
    const SeenScores first = seen_row(tile, at, row), last = seen_row(tile, at, row + N - 1);
    const int from = first.from, to = last.to;
    if (from >= to) return;
    score_block<N>(m.queries + row * width_, width_, m.keys, at.key, ahead ? ahead->key : nullptr, m.scores, a_.head_dim, from, to);
    float scales[N];
    for (int n = 0; n < N; ++n) scales[n] = weigh_one(seen_row(tile, at, row + n), m.scores + n * kTileKeys, from, to, part, row + n);
    const C* const* coming = ahead ? ahead->value : nullptr;
    constexpr int kSome = N < kValueRows ? N : kValueRows;
    add_value_rows<kSome>(m.scores, at.value, coming, scales, part.acc + row * width_, width_, from, to);
    if constexpr (N > kSome) {
      add_value_rows<N - kSome>(m.scores + kSome * kTileKeys, at.value, static_cast<const C* const*>(nullptr), scales + kSome,
                                part.acc + (row + kSome) * width_, width_, from, to);
    }
  }

  // Keys of a tile that a row sees, as `from` and `to`.
  template <typename C>
  SeenScores seen_row(const Tile& tile, const Located<C>& at, int64_t row) const {
    const Keys seen = p_.seen_by(tile, row / p_.group);
    const int64_t from = seen.from - at.base, to = seen.to - at.base;
    return {nullptr, 0, 0, static_cast<int>(from > at.from ? from < kTileKeys ? from : kTileKeys : at.from),
            static_cast<int>(to < at.to ? to > 0 ? to : 0 : at.to)};
  }

  float weigh_one(SeenScores row, float* scores, int from, int to, const Partial& part, int64_t number) const {
    row.scores = scores;
    row.begin = from / kLanes * kLanes;
    row.end = (to + kLanes - 1) / kLanes * kLanes;
    if (row.from < row.to) return weigh_row(row, {a_.scale, a_.soft_cap}, part.maximum + number, part.total + number);
    for (int i = row.begin; i < row.end; i += kLanes) store(scores + i, Vec{});
    return 1.0f;
  }

  const Problem& p_;
  const AttentionArgs& a_;
  const int64_t width_, queries_size_, tile_size_;
};

}  // namespace octavo::OCTAVO_ISA
