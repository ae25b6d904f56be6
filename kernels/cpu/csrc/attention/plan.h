// What attention shares out among threads: tiles of queries against fixed splits of their contexts.
//
// A context is cut into splits of kSplitKeys keys at fixed positions. Each split is reduced by itself and the splits are
// merged in order. Whether one thread walks through a tile's splits or several share them, the arithmetic is the same.
#pragma once

#include <atomic>
#include <limits>

#include "attention/chunk.h"
#include "base/kernels.h"
#include "base/simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kSplitKeys = 256;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// What a split (or the merged ones) says about each row: the maximum score, and relative to it the sum of the weights and
// the weighted sum of the values.
struct Partial {
  float *maximum, *total, *acc;
};

// Some consecutive queries of a request with all the query heads of one KV head: rows are (query, head) pairs.
struct Tile {
  int64_t request, first_query, queries, position, length, kv_head;  // position of the first query; keys there are
  int64_t first_split, num_splits;
  float* parts;     // one partial a split where several items share the tile, else null
  int64_t pending;  // items of the tile not yet done
};

struct TileSplit {
  const Tile* tile;
  int64_t number;
};

// Consecutive splits of one tile.
struct Item {
  Tile* tile;
  int64_t first, count;
};

// A range of key positions.
struct Keys {
  int64_t from, to;
};

// A call's arguments and what follows from them.
class Problem {
 public:
  explicit Problem(const AttentionArgs& arguments)
      : args(arguments),
        group(arguments.num_heads / arguments.num_kv_heads),
        width(whole_chunks(arguments.head_dim)) {}

  // Keys that a tile's query sees.
  Keys seen_by(const Tile& tile, int64_t query) const {
    const int64_t position = tile.position + query, window = args.sliding_window;
    const int64_t from = window > 0 && position >= window ? position - window + 1 : 0;
    if (!args.full) return {from, position + 1};
    return {from, window > 0 && position + window < tile.length ? position + window : tile.length};
  }

  // Keys that any of a tile's queries sees.
  Keys seen_from(const Tile& tile) const { return {seen_by(tile, 0).from, seen_by(tile, tile.queries - 1).to}; }

  // Those of them that lie in a split.
  Keys seen_from(const Tile& tile, int64_t split) const {
    const Keys keys = seen_from(tile);
    const int64_t begin = split * kSplitKeys, end = begin + kSplitKeys;
    return {keys.from > begin ? keys.from : begin, keys.to < end ? keys.to : end};
  }

  // A block id outside the cache is an error of the caller's; it is reported, and block 0 read instead.
  int64_t block_of(int64_t request, int64_t index) const {
    const int64_t block = args.block_tables[request * args.block_table_stride + index];
    if (block >= 0 && block < args.num_blocks) return block;
    valid_.store(false, std::memory_order_relaxed);
    return 0;
  }

  bool valid() const { return valid_.load(std::memory_order_relaxed); }

  const AttentionArgs& args;
  const int64_t group, width;

 private:
  mutable std::atomic<bool> valid_{true};
};

// Tiles and items, in memory of the calling thread that lasts for one call.
class Plan {
 public:
  // `tile_rows`: rows a tile should hold; `row_multiple`: what a partial's rows are rounded up to.
  Plan(const Problem& problem, int64_t tile_rows, int64_t row_multiple)
      : p_(problem),
        queries_per_tile_(tile_rows > problem.group ? tile_rows / problem.group : 1),
        max_rows_((queries_per_tile_ * problem.group + row_multiple - 1) / row_multiple * row_multiple) {}

  // False if the requests' lengths do not fit.
  bool make() {
    if (!count()) return false;
    choose_share();
    tiles_ = static_cast<Tile*>(shared_scratch(num_tiles_ * sizeof(Tile) + (num_tiles_ + num_splits_) * sizeof(Item) +
                                               (shared_splits_ * partial_floats() + 16) * sizeof(float)));
    items_ = reinterpret_cast<Item*>(tiles_ + num_tiles_);
    parts_ = aligned(items_ + num_tiles_ + num_splits_);
    Tile* tile = tiles_;
    for_each_tile([&](const Tile& first) {
      for (int64_t head = 0; head < p_.args.num_kv_heads; ++head) {
        *tile = first;
        tile->kv_head = head;
        add_items(tile++);
      }
    });
    return true;
  }

  int64_t num_items() const { return num_items_; }
  const Item& item(int64_t i) const { return items_[i]; }
  int64_t work() const { return work_; }
  int64_t max_rows() const { return max_rows_; }

  int64_t partial_floats() const { return max_rows_ * p_.width + 2 * round(max_rows_); }
  Partial partial(float* memory) const {
    float* maximum = memory + max_rows_ * p_.width;
    return {maximum, maximum + round(max_rows_), memory};
  }

 private:
  static constexpr int64_t kItemsPerThread = 8;
  static constexpr int64_t kSplitOverhead = 32;  // what a split costs beside its rows, in rows

  static int64_t round(int64_t floats) { return (floats + 15) / 16 * 16; }
  static float* aligned(void* memory) {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory) + 63) / 64 * 64);
  }

  // body(tile) for the tiles of the first KV head, those with the longest contexts first within a request.
  template <typename Body>
  void for_each_tile(const Body& body) const {
    const AttentionArgs& a = p_.args;
    for (int64_t r = 0; r < a.num_requests; ++r) {
      const int64_t start = a.query_starts[r], queries = a.query_starts[r + 1] - start, length = a.seq_lens[r];
      for (int64_t first = (queries - 1) / queries_per_tile_ * queries_per_tile_; first >= 0 && queries > 0;
           first -= queries_per_tile_) {
        if (length == 0) break;  // what sees nothing is written by the caller
        const int64_t some = queries - first < queries_per_tile_ ? queries - first : queries_per_tile_;
        Tile tile{r, start + first, some, length - queries + first, length, 0, 0, 0, nullptr, 0};
        const Keys keys = p_.seen_from(tile);
        tile.first_split = keys.from / kSplitKeys;
        tile.num_splits = (keys.to + kSplitKeys - 1) / kSplitKeys - tile.first_split;
        body(tile);
      }
    }
  }

  bool count() {
    const AttentionArgs& a = p_.args;
    for (int64_t r = 0; r < a.num_requests; ++r) {
      const int64_t queries = a.query_starts[r + 1] - a.query_starts[r], length = a.seq_lens[r];
      if (queries < 0 || (queries > length && (!a.full || a.sliding_window > 0)) || length < 0 || length > a.max_blocks * a.block_size) return false;
    }
    for_each_tile([this](const Tile& tile) {
      const Keys keys = p_.seen_from(tile);
      num_tiles_ += p_.args.num_kv_heads;
      num_splits_ += tile.num_splits * p_.args.num_kv_heads;
      cost_ += tile.num_splits * cost_of_split(tile) * p_.args.num_kv_heads;
      work_ += (keys.to - keys.from) * tile.queries * p_.args.num_heads * p_.args.head_dim;
    });
    return true;
  }

  int64_t cost_of_split(const Tile& tile) const { return kSplitOverhead + tile.queries * p_.group; }

  // An item is to be a small part of all work, so that threads finish together.
  void choose_share() {
    share_ = num_threads() > 1 ? cost_ / (num_threads() * kItemsPerThread) : cost_;
    for_each_tile([this](const Tile& tile) {
      if (splits_per_item(tile) < tile.num_splits) shared_splits_ += tile.num_splits * p_.args.num_kv_heads;
    });
  }

  int64_t splits_per_item(const Tile& tile) const {
    const int64_t splits = share_ / cost_of_split(tile) > 0 ? share_ / cost_of_split(tile) : 1;
    return tile.num_splits <= splits + splits / 2 ? tile.num_splits : splits;
  }

  void add_items(Tile* tile) {
    const int64_t splits = splits_per_item(*tile);
    if (splits < tile->num_splits) {
      tile->parts = parts_;
      parts_ += tile->num_splits * partial_floats();
    }
    for (int64_t first = 0; first < tile->num_splits; first += splits, ++tile->pending) {
      const int64_t left = tile->num_splits - first;
      items_[num_items_++] = {tile, first, left < splits ? left : splits};
    }
  }

  const Problem& p_;
  const int64_t queries_per_tile_, max_rows_;
  int64_t num_tiles_ = 0, num_splits_ = 0, num_items_ = 0, shared_splits_ = 0;
  int64_t cost_ = 0, work_ = 0, share_ = 0;
  Tile* tiles_ = nullptr;
  Item* items_ = nullptr;
  float* parts_ = nullptr;
};

}  // namespace octavo::OCTAVO_ISA
