// Attention of bf16 queries over bf16 caches with matrix tiles.
//
// Sixteen rows at a time are multiplied with the tiles that the cache holds, see kv_tiles.h: a decode step's few rows and the
// rows of a prompt in the same products and order. The first rows of a split read it from memory, those after find it near.
#pragma once

#include "attention_amx_tile.h"

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
    return kTileSide * kSplitKeys * 4 + halves * 2;
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

  void reduce(const Tile& tile, int64_t split, float* memory, const Partial& part) const {
    const Memory m = divide(memory);
    const int64_t rows = tile.queries * p_.group;
    Split at = locate(tile, split);
    const TileShapes shapes(rows < kTileSide ? rows : kTileSide);
    _tile_loadconfig(&shapes);
    for (int64_t row = 0; row < rows; row += kTileSide) {
      reduce_rows(tile, at, row, rows - row < kTileSide ? rows - row : kTileSide, m, part);
    }
    _tile_release();
  }

 private:
  static constexpr int64_t kChunks = kSplitKeys / kStep;
  static constexpr int64_t kAhead = 1;  // chunk

  struct Memory {
    bf16 *weights, *queries, *staging;
    float* scores;
  };

  // Chunks of 32 keys that hold some of those which a tile sees of a split, and where they lie.
  struct Split {
    int64_t base;  // its first key
    Keys keys, chunks;
    const bf16 *key_tiles[kChunks], *value_tiles[kChunks];
  };

  Memory divide(float* memory) const {
    Memory m;
    m.scores = memory;
    m.weights = reinterpret_cast<bf16*>(m.scores + kTileSide * kSplitKeys);
    m.queries = m.weights + kTileSide * kSplitKeys;
    m.staging = m.queries + max_rows_ * a_.head_dim;
    return m;
  }

  Split locate(const Tile& tile, int64_t number) const {
    Split at{number * kSplitKeys, p_.seen_from(tile, number), {0, 0}, {}, {}};
    at.chunks = chunks_of(at.keys, at.base);
    for (int64_t chunk = at.chunks.from; chunk < at.chunks.to; ++chunk) {
      at.key_tiles[chunk] = chunk_at(a_.k_cache, a_.k_cache_stride, tile, at.base + chunk * kStep);
      at.value_tiles[chunk] = chunk_at(a_.v_cache, a_.v_cache_stride, tile, at.base + chunk * kStep);
    }
    return at;
  }

  static Keys chunks_of(const Keys& keys, int64_t base) { return {(keys.from - base) / kStep, (keys.to - base + kStep - 1) / kStep}; }

  const bf16* chunk_at(const void* cache, const int64_t* stride, const Tile& tile, int64_t key) const {
    const int64_t block = p_.block_of(tile.request, key / a_.block_size);
    return static_cast<const bf16*>(cache) + block * stride[0] + tile.kv_head * stride[1] + key % a_.block_size * a_.head_dim;
  }

  void reduce_rows(const Tile& tile, Split& at, int64_t row, int64_t rows, const Memory& m, const Partial& part) const {
    const bool first = row == 0;
    const Keys chunks = first ? at.chunks : chunks_seen(tile, at, row, rows);
    const Operand queries{m.queries + row * a_.head_dim, kTileSize};
    for (int64_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
      if (first) prefetch(tile, at, chunk - chunks.from + kAhead);
      const bf16* keys = at.key_tiles[chunk];
      multiply_one(queries, {keys, kTileSize}, {keys + kTileSide * a_.head_dim, kTileSize}, steps_, m.scores + chunk * kStep,
                   kSplitKeys);
    }
    soften(tile, at.base, row, rows, chunks, m, part);
    for (int64_t d = 0; d < a_.head_dim; d += kStep) {
      begin_sums();
      for (int64_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
        if (first && d == 0) {
          prefetch(tile, at, chunks.to - chunks.from + chunk - chunks.from + kAhead);
          hide_unseen(at, chunk, m);
        }
        const bf16* values = at.value_tiles[chunk] + d / kTileSide * kTileSize;
        add_step(m.weights + chunk * kTileSize, values, values + kTileSize);
      }
      end_sums(part.acc + row * p_.width + d, p_.width);
    }
  }

  // Those of a split's chunks that some rows of a tile see.
  Keys chunks_seen(const Tile& tile, const Split& at, int64_t row, int64_t rows) const {
    const int64_t from = p_.seen_from(tile.position + row / p_.group).from, end = at.base + kSplitKeys;
    const int64_t to = p_.seen_from(tile.position + (row + rows - 1) / p_.group).to;
    return chunks_of({from > at.base ? from : at.base, to < end ? to : end}, at.base);
  }

  void soften(const Tile& tile, int64_t base, int64_t first, int64_t rows, const Keys& chunks, const Memory& m,
              const Partial& part) const {
    constexpr int64_t kChunksPerGroup = kWeightGroup / kStep;
    ScoreRow row{m.scores, chunks.from / kChunksPerGroup * kWeightGroup,
                 (chunks.to + kChunksPerGroup - 1) / kChunksPerGroup * kWeightGroup, 0, 0};
    for (int64_t i = 0; i < rows; ++i, row.scores += kSplitKeys) {
      const Keys seen = p_.seen_from(tile.position + (first + i) / p_.group);
      row.from = seen.from > base ? seen.from - base : 0;
      row.to = seen.to < base + kSplitKeys ? seen.to - base : kSplitKeys;
      if (a_.soft_cap > 0) cap_scores(row, a_.scale, a_.soft_cap);
      soften_row(row, a_.soft_cap > 0 ? 1.0f : a_.scale, m.weights + i * kStep, part.maximum + first + i, part.total + first + i);
    }
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

  // Reads ahead in the order of use: a split's chunks of keys, then of values, then keys of what this thread most likely goes
  // on with, the next split or the next head.
  void prefetch(const Tile& tile, const Split& at, int64_t i) const {
    const int64_t count = at.chunks.to - at.chunks.from;
    if (i < count) return prefetch(at.key_tiles[at.chunks.from + i]);
    if (i < 2 * count) return prefetch(at.value_tiles[at.chunks.from + i - count]);
    Tile next = tile;
    int64_t key = at.base + kSplitKeys;
    if (key >= p_.seen_from(tile).to) {
      if (++next.kv_head == a_.num_kv_heads) return;
      key = p_.seen_from(tile).from;
    }
    key = key / kStep * kStep + (i - 2 * count) * kStep;
    if (key < p_.seen_from(tile).to) prefetch(chunk_at(a_.k_cache, a_.k_cache_stride, next, key));
  }

  void prefetch(const bf16* chunk) const { prefetch_lines(reinterpret_cast<const char*>(chunk), kStep * a_.head_dim * 2); }

  const Problem& p_;
  const AttentionArgs& a_;
  const int64_t steps_, max_rows_;
};

#endif

}  // namespace octavo::OCTAVO_ISA
