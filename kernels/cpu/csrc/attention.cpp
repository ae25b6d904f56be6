// Attention of new tokens over their requests' paged contexts.
//
// A context is cut into splits of kSplitKeys keys and these into tiles of kTileKeys, at fixed positions. Each split is
// reduced by itself with an online softmax, tile after tile; then the splits are merged in order. Whether one thread walks
// through a row's splits or several share them, the arithmetic is the same.
#include <atomic>

#include "attention_tile.h"
#include "table.h"

namespace octavo::OCTAVO_ISA {
namespace {

constexpr int64_t kSplitKeys = 256;
constexpr int64_t kTargetRows = 32;
constexpr int64_t kSharedWork = 16384;  // multiply-adds below which one thread is faster than two

// Some consecutive queries of a request with all the query heads of one KV head.
struct Tile {
  int64_t request, first_query, queries, position, kv_head;
  int64_t first_split, num_splits;
};

// What a split (or the merged ones) says about each row: the maximum score, and relative to it the sum of the weights and
// the weighted sum of the values.
struct Partial {
  float *maximum, *total, *acc;

  void clear(int64_t rows, int64_t width) const {
    for (int64_t row = 0; row < rows; ++row) {
      maximum[row] = kMinusInfinity;
      total[row] = 0.0f;
    }
    for (int64_t i = 0; i < rows * width; ++i) acc[i] = 0.0f;
  }
};

class Attention {
 public:
  explicit Attention(const AttentionArgs& args)
      : a_(args),
        group_(args.num_heads / args.num_kv_heads),
        width_((args.head_dim + kLanes - 1) / kLanes * kLanes),
        queries_per_tile_(group_ < kTargetRows ? kTargetRows / group_ : 1),
        max_rows_(group_ * queries_per_tile_),
        tiles_(count_tiles()) {}

  bool run() {
    if (!plan()) return false;
    if (num_tiles_ < 4 * num_threads() && max_splits_ > 1) {
      run_shared();
    } else {
      parallel_for(num_tiles_, work_ > kSharedWork, [this](int64_t i) { walk(tiles_[i]); });
    }
    return valid_;
  }

 private:
  int64_t tiles_for(int64_t queries) const { return (queries + queries_per_tile_ - 1) / queries_per_tile_; }

  int64_t count_tiles() const {
    int64_t count = 0;
    for (int64_t r = 0; r < a_.num_requests; ++r) {
      const int64_t queries = a_.query_starts[r + 1] - a_.query_starts[r];
      count += queries > 0 ? tiles_for(queries) * a_.num_kv_heads : 0;
    }
    return count;
  }

  // Lists the tiles, those with the longest contexts first within a request, as they take longest.
  bool plan() {
    for (int64_t r = 0; r < a_.num_requests; ++r) {
      const int64_t start = a_.query_starts[r], queries = a_.query_starts[r + 1] - start, length = a_.seq_lens[r];
      if (queries < 0 || queries > length || length > a_.max_blocks * a_.block_size) return false;
      for (int64_t i = tiles_for(queries) - 1; i >= 0; --i) add_tiles(r, start, queries, length, i * queries_per_tile_);
    }
    return true;
  }

  void add_tiles(int64_t request, int64_t start, int64_t queries, int64_t length, int64_t first) {
    Tile tile{};
    tile.request = request;
    tile.first_query = start + first;
    tile.queries = queries - first < queries_per_tile_ ? queries - first : queries_per_tile_;
    tile.position = length - queries + first;
    tile.first_split = first_key(tile) / kSplitKeys;
    tile.num_splits = (end_key(tile) + kSplitKeys - 1) / kSplitKeys - tile.first_split;
    max_splits_ = tile.num_splits > max_splits_ ? tile.num_splits : max_splits_;
    work_ += (end_key(tile) - first_key(tile)) * tile.queries * a_.num_heads * a_.head_dim;
    for (tile.kv_head = 0; tile.kv_head < a_.num_kv_heads; ++tile.kv_head) tiles_[num_tiles_++] = tile;
  }

  int64_t first_key(const Tile& tile) const { return window_start(tile.position); }
  int64_t end_key(const Tile& tile) const { return tile.position + tile.queries; }

  // First key seen from a position.
  int64_t window_start(int64_t position) const {
    return a_.sliding_window > 0 && position >= a_.sliding_window ? position - a_.sliding_window + 1 : 0;
  }

  // One thread, all of a tile's splits.
  void walk(const Tile& tile) {
    const int64_t rows = tile.queries * group_;
    float* memory = static_cast<float*>(scratch((split_floats() + 2 * partial_floats()) * sizeof(float)));
    const Partial part = partial(memory + split_floats()), merged = partial(memory + split_floats() + partial_floats());
    load_queries(tile, memory);
    merged.clear(rows, width_);
    for (int64_t i = 0; i < tile.num_splits; ++i) {
      reduce_split(tile, tile.first_split + i, memory, part);
      merge(part, merged, rows);
    }
    write(tile, merged);
  }

  // Few tiles with long contexts: threads share the splits, then the tiles' merges.
  void run_shared() {
    const Array<float> parts(num_tiles_ * max_splits_ * partial_floats());
    parallel_for(num_tiles_ * max_splits_, true, [&](int64_t task) {
      const Tile& tile = tiles_[task / max_splits_];
      const int64_t i = task % max_splits_;
      if (i >= tile.num_splits) return;
      float* memory = static_cast<float*>(scratch(split_floats() * sizeof(float)));
      load_queries(tile, memory);
      reduce_split(tile, tile.first_split + i, memory, partial(parts.get() + task * partial_floats()));
    });
    parallel_for(num_tiles_, true, [&](int64_t t) {
      const Partial merged = partial(static_cast<float*>(scratch(partial_floats() * sizeof(float))));
      merged.clear(tiles_[t].queries * group_, width_);
      for (int64_t i = 0; i < tiles_[t].num_splits; ++i) {
        merge(partial(parts.get() + (t * max_splits_ + i) * partial_floats()), merged, tiles_[t].queries * group_);
      }
      write(tiles_[t], merged);
    });
  }

  // ---- memory: queries [rows, D], keys [D, kTileKeys], values [kTileKeys, width], scores [rows, kTileKeys], scales [rows]

  int64_t split_floats() const {
    return round(max_rows_ * a_.head_dim) + round(a_.head_dim * kTileKeys) + round(kTileKeys * width_) +
           round(max_rows_ * kTileKeys) + round(max_rows_);
  }
  int64_t partial_floats() const { return round(max_rows_ * width_) + 2 * round(max_rows_); }
  static int64_t round(int64_t floats) { return (floats + 15) / 16 * 16; }

  Partial partial(float* memory) const {
    const int64_t acc = round(max_rows_ * width_);
    return {memory + acc, memory + acc + round(max_rows_), memory};
  }

  void load_queries(const Tile& tile, float* queries) const {
    OCTAVO_DISPATCH(a_.dtype, T, {
      const T* q = static_cast<const T*>(a_.q) + tile.first_query * a_.q_stride[0] + tile.kv_head * group_ * a_.q_stride[1];
      for (int64_t row = 0; row < tile.queries * group_; ++row) {
        const T* from = q + row / group_ * a_.q_stride[0] + row % group_ * a_.q_stride[1];
        widen(from, queries + row * a_.head_dim, a_.head_dim, a_.head_dim);
      }
    });
  }

  void reduce_split(const Tile& tile, int64_t split, float* memory, const Partial& part) {
    OCTAVO_DISPATCH(a_.cache_dtype, C, reduce_split_of<C>(tile, split, memory, part));
  }

  template <typename C>
  void reduce_split_of(const Tile& tile, int64_t split, float* memory, const Partial& part) {
    const int64_t begin = split * kSplitKeys, stop = begin + kSplitKeys;
    const int64_t first = first_key(tile) > begin ? first_key(tile) : begin;
    const int64_t last = end_key(tile) < stop ? end_key(tile) : stop;
    part.clear(tile.queries * group_, width_);
    Located<C> now, next;
    int64_t base = first / kTileKeys * kTileKeys;
    locate(tile, base, first, last, now);
    for (; base < last; base += kTileKeys, now = next) {
      // Beyond the split too: this thread most likely goes on there.
      locate(tile, base + kTileKeys, base + kTileKeys, end_key(tile), next);
      prefetch(next);
      reduce_tile<C>(tile, base, now, memory, part);
    }
  }

  // Where the keys and values of one tile are: entries from .. to - 1. Elsewhere `key` repeats one of them, so that whole
  // tiles can be scored; those scores are masked.
  template <typename C>
  struct Located {
    const C *key[kTileKeys], *value[kTileKeys];
    int from, to;
  };

  template <typename C>
  void locate(const Tile& tile, int64_t base, int64_t first, int64_t last, Located<C>& at) {
    at.from = static_cast<int>(first > base ? first - base : 0);
    at.to = static_cast<int>(last - base < kTileKeys ? last > base ? last - base : 0 : kTileKeys);
    if (at.from >= at.to) return;
    int64_t index = (base + at.from) / a_.block_size, offset = (base + at.from) % a_.block_size;
    const C *key = nullptr, *value = nullptr;
    for (int i = at.from; i < at.to; ++i) {
      if (!key || offset == a_.block_size) {
        if (key) ++index, offset = 0;
        const int64_t block = block_of(tile.request, index);
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
  void reduce_tile(const Tile& tile, int64_t base, const Located<C>& at, float* memory, const Partial& part) {
    const int64_t rows = tile.queries * group_;
    float* keys = memory + round(max_rows_ * a_.head_dim);
    float* values = keys + round(a_.head_dim * kTileKeys);
    float* scores = values + round(kTileKeys * width_);
    float* scales = scores + round(max_rows_ * kTileKeys);
    for (int i = 0; i < kTileKeys; i += kLanes) transpose_keys(at.key + i, keys + i, a_.head_dim);
    for (int i = at.from; i < at.to; ++i) widen(at.value[i], values + i * width_, a_.head_dim, width_);
    score(memory, keys, scores, rows);
    soften(tile, base, at.from, at.to, scores, scales, part);
    accumulate(scores, values, scales, part.acc, rows, at.from, at.to);
  }

  // A block id outside the cache is an error of the caller's; it is reported, and block 0 read instead.
  int64_t block_of(int64_t request, int64_t index) {
    const int64_t block = a_.block_tables[request * a_.block_table_stride + index];
    if (block >= 0 && block < a_.num_blocks) return block;
    valid_.store(false, std::memory_order_relaxed);
    return 0;
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

  void soften(const Tile& tile, int64_t base, int from, int to, float* scores, float* scales, const Partial& part) const {
    const ScoreRule rule{a_.scale, a_.soft_cap};
    for (int64_t row = 0; row < tile.queries * group_; ++row) {
      const int64_t position = tile.position + row / group_;
      const int64_t start = window_start(position) - base, end = position + 1 - base;
      const int first = static_cast<int>(start > from ? start < kTileKeys ? start : kTileKeys : from);
      const int last = static_cast<int>(end < to ? end > 0 ? end : 0 : to);
      scales[row] = soften_row(scores + row * kTileKeys, first, last, rule, part.maximum + row, part.total + row);
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

  // One function for both ways of running, so that both round alike.
  __attribute__((noinline)) void merge(const Partial& part, const Partial& merged, int64_t rows) const {
    for (int64_t row = 0; row < rows; ++row) {
      if (part.maximum[row] == kMinusInfinity) continue;
      const float top = part.maximum[row] > merged.maximum[row] ? part.maximum[row] : merged.maximum[row];
      const float old_scale = exp(splat(merged.maximum[row] - top))[0], scale = exp(splat(part.maximum[row] - top))[0];
      merged.maximum[row] = top;
      merged.total[row] = merged.total[row] * old_scale + part.total[row] * scale;
      for (int64_t d = row * width_; d < (row + 1) * width_; d += kLanes) {
        store(merged.acc + d, fmadd(load(part.acc + d), splat(scale), load(merged.acc + d) * splat(old_scale)));
      }
    }
  }

  void write(const Tile& tile, const Partial& merged) const {
    OCTAVO_DISPATCH(a_.dtype, T, {
      T* out = static_cast<T*>(a_.out) + (tile.first_query * a_.num_heads + tile.kv_head * group_) * a_.head_dim;
      for (int64_t row = 0; row < tile.queries * group_; ++row) {
        T* to = out + (row / group_ * a_.num_heads + row % group_) * a_.head_dim;
        write_row(to, merged.acc + row * width_, merged.total[row]);
      }
    });
  }

  template <typename T>
  void write_row(T* out, const float* acc, float total) const {
    const Vec divisor = splat(total);
    int64_t d = 0;
    for (; d + kLanes <= a_.head_dim; d += kLanes) store(out + d, load(acc + d) / divisor);
    if (d < a_.head_dim) store_some(out + d, load(acc + d) / divisor, a_.head_dim - d);
  }

  const AttentionArgs& a_;
  const int64_t group_, width_, queries_per_tile_, max_rows_;
  const Array<Tile> tiles_;
  int64_t num_tiles_ = 0, max_splits_ = 0, work_ = 0;
  std::atomic<bool> valid_{true};
};

}  // namespace

bool paged_attention(const AttentionArgs& args) { return Attention(args).run(); }

}  // namespace octavo::OCTAVO_ISA
