// Attention of bf16 queries over bf16 caches with matrix tiles.
//
// Sixteen rows at a time are multiplied with the tiles that the cache holds, see attention/kv_tiles.h: a decode step's few rows and the
// rows of a prompt in the same products and order. The first rows of a split read it from memory, those after find it near.
#pragma once

#include "attention/amx_tile.h"
#include "attention/prefetch.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

class AmxAttention {
 public:
  static constexpr int64_t kRowMultiple = kTileSide;

  // Rows of a tile share keys and values, as long as there are tiles enough for all threads.
  static int64_t tile_rows(const Problem& problem) {
    constexpr int64_t kTilesPerThread = 4, kMostRows = 256, kLeastRows = 64;
    const AttentionArgs& a = problem.args;
    const int64_t rows = a.query_starts[a.num_requests] * a.num_heads / (num_threads() * kTilesPerThread);
    return rows > kMostRows ? kMostRows : rows < kLeastRows ? kLeastRows : rows;
  }

  AmxAttention(const Problem& problem, int64_t max_rows)
      : p_(problem), a_(problem.args), steps_(a_.head_dim / kStep), max_rows_(max_rows) {}

  int64_t bytes() const {
    const int64_t halves = kTileSide * kSplitKeys + max_rows_ * a_.head_dim + 2 * kStep * a_.head_dim;
    return 2 * kTileSide * kSplitKeys * 4 + halves * 2;
  }

  // Queries -> tiles, [rows / 16][steps][16][32]; rows past the last are zero, so that whole tiles can be multiplied.
  void load(const Tile& tile, float* memory) const {
    const Memory m = divide(memory);
    const int64_t rows = tile.queries * p_.group;
    const bf16* q = static_cast<const bf16*>(a_.q) + tile.first_query * a_.q_stride[0] + tile.kv_head * p_.group * a_.q_stride[1];
    for (int64_t row = 0; row < (rows + kTileSide - 1) / kTileSide * kTileSide; ++row) {
      const bf16* from = q + row / p_.group * a_.q_stride[0] + row % p_.group * a_.q_stride[1];
      for (int64_t step = 0; step < steps_; ++step) {
        bf16* to = m.queries + (row / kTileSide * steps_ + step) * kTileSize + row % kTileSide * kStep;
        _mm512_storeu_si512(to, row < rows ? _mm512_loadu_si512(from + step * kStep) : _mm512_setzero_si512());
      }
    }
  }

  void reduce(const TileSplit& split, const TileSplit& next_split, float* memory, const Partial& part) const {
    const Memory m = divide(memory);
    const Tile& tile = *split.tile;
    const int64_t rows = tile.queries * p_.group;
    Split at = locate(split);
    const Split coming = locate(next_split);
    Prefetcher ahead(at, coming, steps_);
    const TileConfig shapes = tiles_of(rows < kTileSide ? rows : kTileSide);
    _tile_loadconfig(&shapes);
    SomeRows now = some_rows(tile, at, 0, rows, m.scores[0]);
    score(at, now, m, nullptr, &ahead);
    while (now.count > 0) {
      Softmax softmax(*this, tile, at.base, now, m, part);
      const SomeRows next = some_rows(tile, at, now.first + kTileSide, rows, m.scores[now.first / kTileSide % 2 == 0]);
      if (next.count > 0) score(at, next, m, &softmax, nullptr);
      softmax.finish();
      add_values(at, now, m, part, now.first == 0 ? &ahead : nullptr);
      now = next;
    }
    _tile_release();
  }

 private:
  using Split = LocatedSplit;

  struct Memory {
    bf16 *weights, *queries, *staging;
    float* scores[2];
  };

  Memory divide(float* memory) const {
    Memory m;
    m.scores[0] = memory;
    m.scores[1] = memory + kTileSide * kSplitKeys;
    m.weights = reinterpret_cast<bf16*>(memory + 2 * kTileSide * kSplitKeys);
    m.queries = m.weights + kTileSide * kSplitKeys;
    m.staging = m.queries + max_rows_ * a_.head_dim;
    return m;
  }

  // Without a tile: nothing.
  Split locate(const TileSplit& split) const {
    if (!split.tile) return {};
    const Tile& tile = *split.tile;
    Split at{split.number * kSplitKeys, p_.seen_from(tile, split.number), {0, 0}, {}, {}};
    at.chunks = chunks_of(at.keys, at.base);
    const int64_t per_block = a_.block_size / kStep, first = at.base / kStep + at.chunks.from;
    int64_t block = first / per_block, place = first % per_block;
    for (int64_t chunk = at.chunks.from; chunk < at.chunks.to; ++chunk, ++place) {
      if (place == per_block) ++block, place = 0;
      const int64_t id = p_.block_of(tile.request, block), offset = place * kStep * a_.head_dim;
      at.key_tiles[chunk] = head_of(a_.k_cache, a_.k_cache_stride, id, tile.kv_head) + offset;
      at.value_tiles[chunk] = head_of(a_.v_cache, a_.v_cache_stride, id, tile.kv_head) + offset;
    }
    return at;
  }

  static Keys chunks_of(const Keys& keys, int64_t base) { return {(keys.from - base) / kStep, (keys.to - base + kStep - 1) / kStep}; }

  static const bf16* head_of(const void* cache, const int64_t* stride, int64_t block, int64_t head) {
    return static_cast<const bf16*>(cache) + block * stride[0] + head * stride[1];
  }

  // Up to 16 rows of a tile, the chunks that some of them see, and their scores.
  struct SomeRows {
    int64_t first, count;
    Keys chunks;
    float* scores;
  };

  SomeRows some_rows(const Tile& tile, const Split& at, int64_t first, int64_t rows, float* scores) const {
    const int64_t left = rows - first, count = left < kTileSide ? left : kTileSide;
    if (count <= 0) return {first, 0, {0, 0}, scores};
    return {first, count, first == 0 ? at.chunks : chunks_seen(tile, at, first, count), scores};
  }

  // Turns scores into weights, row by row: vectors' work, done while tiles score the next rows.
  class Softmax {
   public:
    Softmax(const AmxAttention& kernel, const Tile& tile, int64_t base, const SomeRows& rows, const Memory& m, const Partial& part)
        : kernel_(kernel), tile_(tile), base_(base), rows_(rows), m_(m), part_(part) {}

    OCTAVO_INLINE void step() {
      if (next_ < rows_.count) kernel_.softmax(tile_, base_, rows_, next_++, m_, part_);
    }
    void finish() {
      while (next_ < rows_.count) step();
    }

   private:
    const AmxAttention& kernel_;
    const Tile& tile_;
    const int64_t base_;
    const SomeRows rows_;
    const Memory& m_;
    const Partial& part_;
    int64_t next_ = 0;
  };

  // The first rows ask for what is read next; the others find it near.
  void score(const Split& at, const SomeRows& rows, const Memory& m, Softmax* before, Prefetcher* ahead) const {
    const bf16* queries = m.queries + rows.first * a_.head_dim;
    for (int64_t chunk = rows.chunks.from; chunk < rows.chunks.to; ++chunk) {
      const bf16* keys = at.key_tiles[chunk];
      begin_sums();
      for (int64_t step = 0; step < steps_; ++step) {
        if (before) before->step();
        if (ahead) ahead->step();
        add_step(queries + step * kTileSize, keys + step * kTileSize, keys + kTileSide * a_.head_dim + step * kTileSize);
      }
      end_sums(rows.scores + chunk * kStep, kSplitKeys);
    }
  }

  void add_values(Split& at, const SomeRows& rows, const Memory& m, const Partial& part, Prefetcher* ahead) const {
    const Keys& chunks = rows.chunks;
    for (int64_t d = 0; d < a_.head_dim; d += kStep) {
      begin_sums();
      for (int64_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
        if (rows.first == 0 && d == 0) hide_unseen(at, chunk, m);
        if (ahead) ahead->step();
        const bf16* values = at.value_tiles[chunk] + d / kTileSide * kTileSize;
        add_step(m.weights + chunk * kTileSize, values, values + kTileSize);
      }
      end_sums(part.acc + rows.first * p_.width + d, p_.width);
    }
  }

  // Those of a split's chunks that some rows of a tile see.
  Keys chunks_seen(const Tile& tile, const Split& at, int64_t row, int64_t rows) const {
    const int64_t from = p_.seen_by(tile, row / p_.group).from, end = at.base + kSplitKeys;
    const int64_t to = p_.seen_by(tile, (row + rows - 1) / p_.group).to;
    return chunks_of({from > at.base ? from : at.base, to < end ? to : end}, at.base);
  }

  void softmax(const Tile& tile, int64_t base, const SomeRows& rows, int64_t i, const Memory& m, const Partial& part) const {
    constexpr int64_t kChunksPerGroup = kWeightGroup / kStep;
    const int64_t number = rows.first + i;
    const Keys seen = p_.seen_by(tile, number / p_.group);
    const ScoreRow row{rows.scores + i * kSplitKeys, rows.chunks.from / kChunksPerGroup * kWeightGroup,
                       (rows.chunks.to + kChunksPerGroup - 1) / kChunksPerGroup * kWeightGroup,
                       seen.from > base ? seen.from - base : 0, seen.to < base + kSplitKeys ? seen.to - base : kSplitKeys};
    if (a_.soft_cap > 0) cap_scores(row, a_.scale, a_.soft_cap);
    softmax_row(row, a_.soft_cap > 0 ? 1.0f : a_.scale, m.weights + i * kStep, part.maximum + number, part.total + number);
  }

  // Values that the tile does not see may be anything that no number times zero undoes: zeros stand in for them. A split has
  // at most two chunks, its first and last, with such values.
  void hide_unseen(Split& at, int64_t chunk, const Memory& m) const {
    const int64_t first = at.base + chunk * kStep;
    if (at.keys.from <= first && at.keys.to >= first + kStep) return;
    bf16* staged = m.staging + (chunk == at.chunks.from ? 0 : kStep * a_.head_dim);
    copy_values(at.value_tiles[chunk], at.keys.from - first, at.keys.to - first, a_.head_dim, staged);
    at.value_tiles[chunk] = staged;
  }

  const Problem& p_;
  const AttentionArgs& a_;
  const int64_t steps_, max_rows_;
};

#endif

}  // namespace octavo::OCTAVO_ISA
