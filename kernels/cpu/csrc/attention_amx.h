// Attention of bf16 queries over bf16 caches with matrix tiles.
//
// Up to 16 rows (a decode step) take the keys from the cache as they lie; more rows share keys and values packed once a
// split. Both ways multiply the same numbers in the same order, see attention_amx_tile.h.
#pragma once

#include "attention_amx_tile.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

class AmxAttention {
 public:
  static constexpr int64_t kRowMultiple = 16;

  static bool fits(const AttentionArgs& a) {
    return a.dtype == DType::bf16 && a.cache_dtype == DType::bf16 && a.head_dim % kStep == 0 && a.scale > 0;
  }

  // Many rows share the packing of keys and values, as long as there are tiles enough for all threads.
  static int64_t tile_rows(const Problem& problem) {
    constexpr int64_t kTilesPerThread = 4, kMostRows = 256, kLeastRows = 64;
    const AttentionArgs& a = problem.args;
    const int64_t rows = a.query_starts[a.num_requests] * a.num_heads / (num_threads() * kTilesPerThread);
    return rows > kMostRows ? kMostRows : rows < kLeastRows ? kLeastRows : rows;
  }

  AmxAttention(const Problem& problem, int64_t max_rows)
      : p_(problem), a_(problem.args), steps_(a_.head_dim / kStep), max_rows_((max_rows + 31) / 32 * 32) {}

  int64_t bytes() const {
    const int64_t packed = kSplitKeys * a_.head_dim, halves = max_rows_ * a_.head_dim + 2 * packed + kRows * kSplitKeys +
                                                              (2 * kTileSide + 1) * a_.head_dim;
    return halves * 2 + (kRows + kTileSide) * kSplitKeys * 4;
  }

  void load(const Tile& tile, float* memory) const {
    const Memory m = divide(memory);
    const int64_t rows = tile.queries * p_.group;
    const bf16* q = static_cast<const bf16*>(a_.q) + tile.first_query * a_.q_stride[0] + tile.kv_head * p_.group * a_.q_stride[1];
    std::memset(static_cast<void*>(m.zeros), 0, a_.head_dim * 2);
    // Rows past the last are zero, so that whole tiles can be multiplied.
    for (int64_t row = 0; row < (rows + 31) / 32 * 32; ++row) {
      const bf16* from = row < rows ? q + row / p_.group * a_.q_stride[0] + row % p_.group * a_.q_stride[1] : m.zeros;
      for (int64_t step = 0; step < steps_; ++step) {
        bf16* to = m.queries + (row / kTileSide * steps_ + step) * kTileSize + row % kTileSide * kStep;
        std::memcpy(static_cast<void*>(to), from + step * kStep, 64);
      }
    }
    if (rows <= kTileSide) turn_queries(m);
  }

  void reduce(const Tile& tile, int64_t split, float* memory, const Partial& part) const {
    const Memory m = divide(memory);
    const int64_t rows = tile.queries * p_.group;
    const TileShapes shapes;
    _tile_loadconfig(&shapes);
    if (rows <= kTileSide) {
      reduce_few(tile, split, m, part);
    } else {
      reduce_many(tile, split, m, part);
    }
    _tile_release();
  }

 private:
  static constexpr int64_t kRows = 32;  // worked on together
  static constexpr int64_t kAhead = 2;  // chunks of 32 keys

  struct Memory {
    bf16 *keys, *values, *weights, *queries, *staging, *zeros;
    float *scores, *turned;
  };

  Memory divide(float* memory) const {
    const int64_t packed = kSplitKeys * a_.head_dim;
    Memory m;
    m.scores = memory;
    m.turned = m.scores + kRows * kSplitKeys;
    m.keys = reinterpret_cast<bf16*>(m.turned + kSplitKeys * kTileSide);
    m.values = m.keys + packed;
    m.weights = m.values + packed;
    m.queries = m.weights + kRows * kSplitKeys;
    m.staging = m.queries + max_rows_ * a_.head_dim;
    m.zeros = m.staging + 2 * kTileSide * a_.head_dim;
    return m;
  }

  // Few queries are the columns of the product with keys.
  void turn_queries(const Memory& m) const {
    for (int64_t step = 0; step < steps_; ++step) {
      bf16* tile = m.queries + step * kTileSize;
      pack_columns({tile, kStep}, 1, tile);
    }
  }

  // ---- up to 16 rows

  void reduce_few(const Tile& tile, int64_t split, const Memory& m, const Partial& part) const {
    const int64_t base = split * kSplitKeys, rows = tile.queries * p_.group;
    const Keys keys = p_.seen_from(tile, split), chunks = chunks_of(keys, base);
    for (int64_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
      prefetch(tile, base, chunks, chunk + kAhead);
      const int64_t first = base + chunk * kStep;
      multiply_keys(sixteen(a_.k_cache, a_.k_cache_stride, tile, first, keys, false, m, 0),
                    sixteen(a_.k_cache, a_.k_cache_stride, tile, first + kTileSide, keys, false, m, 1), m.queries, steps_,
                    m.turned + chunk * kStep * kTileSide);
    }
    for (int64_t key = chunks.from * kStep; key < chunks.to * kStep; key += kTileSide) {
      turn_scores(m.turned + key * kTileSide, m.scores + key, kSplitKeys, rows);
    }
    soften(tile, base, 0, rows, chunks, m, part);
    for (int64_t d = 0; d < a_.head_dim; d += 32) multiply_values(tile, base, keys, chunks, d, m, part.acc + d);
  }

  // Weights times 32 numbers, from d on, of the values. These are packed a chunk at a time, while the chunk before is
  // multiplied: packed as a whole they would push what is being read ahead out of the first-level cache.
  void multiply_values(const Tile& tile, int64_t base, const Keys& keys, const Keys& chunks, int64_t d, const Memory& m,
                       float* out) const {
    const auto packed = [&](int64_t chunk) { return m.values + chunk % 2 * 2 * kTileSize; };
    pack_chunk(tile, base, keys, chunks.from, d, m, packed(chunks.from));
    begin_sums();
    for (int64_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
      if (d == 0) prefetch(tile, base, chunks, chunks.to - chunks.from + chunk + kAhead);
      if (chunk + 1 < chunks.to) pack_chunk(tile, base, keys, chunk + 1, d, m, packed(chunk + 1));
      add_step(m.weights + chunk * kTileSize, packed(chunk), packed(chunk) + kTileSize);
    }
    end_sums(out, p_.width);
  }

  // ---- more rows

  void reduce_many(const Tile& tile, int64_t split, const Memory& m, const Partial& part) const {
    const int64_t base = split * kSplitKeys, rows = tile.queries * p_.group;
    const Keys keys = p_.seen_from(tile, split), chunks = chunks_of(keys, base);
    pack_keys(tile, base, keys, chunks, m);
    pack_values(tile, base, keys, chunks, m);
    for (int64_t row = 0; row < rows; row += kRows) reduce_rows(tile, base, row, rows - row < kRows ? rows - row : kRows, m, part);
  }

  void reduce_rows(const Tile& tile, int64_t base, int64_t row, int64_t rows, const Memory& m, const Partial& part) const {
    const int64_t from = p_.seen_from(tile.position + row / p_.group).from;
    const int64_t to = p_.seen_from(tile.position + (row + rows - 1) / p_.group).to;
    const Keys chunks = chunks_of({from > base ? from : base, to < base + kSplitKeys ? to : base + kSplitKeys}, base);
    for (int64_t half = 0; half < rows; half += kTileSide) {
      const Operand queries{m.queries + (row + half) * a_.head_dim, kTileSize};
      for (int64_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
        const bf16* left = m.keys + chunk * kStep * a_.head_dim;
        multiply_one(queries, {left, kTileSize}, {left + kTileSide * a_.head_dim, kTileSize}, steps_,
                     m.scores + half * kSplitKeys + chunk * kStep, kSplitKeys);
      }
    }
    soften(tile, base, row, rows, chunks, m, part);
    const bf16* weights = m.weights + chunks.from * kTileSize;
    const int64_t steps = chunks.to > chunks.from ? chunks.to - chunks.from : 0;
    for (int64_t d = 0; d < a_.head_dim; d += 32) {
      const Operand left = values_at(m, chunks.from, d), right = values_at(m, chunks.from, d + 16);
      for (int64_t half = 0; half < rows; half += kTileSide) {
        multiply_one({weights + half * kSplitKeys, kTileSize}, left, right, steps, part.acc + (row + half) * p_.width + d,
                     p_.width);
      }
    }
  }

  void pack_keys(const Tile& tile, int64_t base, const Keys& keys, const Keys& chunks, const Memory& m) const {
    for (int64_t key = chunks.from * kStep; key < chunks.to * kStep; key += kTileSide) {
      pack_columns(sixteen(a_.k_cache, a_.k_cache_stride, tile, base + key, keys, false, m, 0), steps_, m.keys + key * a_.head_dim);
    }
  }

  // ---- both

  // Chunks of 32 keys that hold some of a split's keys.
  static Keys chunks_of(const Keys& keys, int64_t base) { return {(keys.from - base) / kStep, (keys.to - base + kStep - 1) / kStep}; }

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
      soften_row(row, a_.soft_cap > 0 ? 1.0f : a_.scale, m.weights + i / kTileSide * kTileSide * kSplitKeys + i % kTileSide * kStep,
                 part.maximum + first + i, part.total + first + i);
    }
  }

  void pack_values(const Tile& tile, int64_t base, const Keys& keys, const Keys& chunks, const Memory& m) const {
    for (int64_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
      bf16* to = m.values + chunk * kStep * a_.head_dim;
      for (int64_t d = 0; d < a_.head_dim; d += 32) pack_chunk(tile, base, keys, chunk, d, m, to + d / kTileSide * kTileSize);
    }
  }

  // 32 numbers, from d on, of a chunk's values -> two tiles.
  void pack_chunk(const Tile& tile, int64_t base, const Keys& keys, int64_t chunk, int64_t d, const Memory& m, bf16* to) const {
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t first = base + chunk * kStep + half * kTileSide;
      pack_rows(sixteen(a_.v_cache, a_.v_cache_stride, tile, first, keys, true, m, 0), d, to + half * 256);
    }
  }

  // The packed values of the 16 numbers from d on.
  Operand values_at(const Memory& m, int64_t chunk, int64_t d) const {
    return {m.values + chunk * kStep * a_.head_dim + d / kTileSide * kTileSize, kStep * a_.head_dim};
  }

  // Sixteen keys or values from a multiple of 16 on, where they lie if they lie together. Those not in `keys` may hold
  // anything, or zeros if asked.
  Sixteen sixteen(const void* cache, const int64_t* stride, const Tile& tile, int64_t first, const Keys& keys, bool zeros,
                  const Memory& m, int64_t place) const {
    const int64_t from = keys.from > first ? keys.from - first : 0;
    const int64_t to = keys.to - first < kTileSide ? keys.to - first : kTileSide;
    if (from >= to) return {m.zeros, 0};
    if (a_.block_size % kTileSide == 0 && (!zeros || to - from == kTileSide)) {
      return {row_at(cache, stride, tile, first), stride[2]};
    }
    bf16* staging = m.staging + place * kTileSide * a_.head_dim;
    for (int64_t i = 0; i < kTileSide; ++i) {
      const bf16* row = i >= from && i < to ? row_at(cache, stride, tile, first + i) : m.zeros;
      std::memcpy(static_cast<void*>(staging + i * a_.head_dim), row, a_.head_dim * 2);
    }
    return {staging, a_.head_dim};
  }

  const bf16* row_at(const void* cache, const int64_t* stride, const Tile& tile, int64_t key) const {
    const int64_t block = p_.block_of(tile.request, key / a_.block_size);
    return static_cast<const bf16*>(cache) + block * stride[0] + tile.kv_head * stride[1] + key % a_.block_size * stride[2];
  }

  // Reads ahead in the order of use: a split's chunks of keys, then of values, then the next split's keys.
  void prefetch(const Tile& tile, int64_t base, const Keys& chunks, int64_t chunk) const {
    const int64_t count = chunks.to - chunks.from;
    if (chunk < chunks.to) {
      prefetch(a_.k_cache, a_.k_cache_stride, tile, base + chunk * kStep);
    } else if (chunk < chunks.to + count) {
      prefetch(a_.v_cache, a_.v_cache_stride, tile, base + (chunk - count) * kStep);
    } else {
      prefetch(a_.k_cache, a_.k_cache_stride, tile, base + kSplitKeys + (chunk - chunks.to - count) * kStep);
    }
  }

  void prefetch(const void* cache, const int64_t* stride, const Tile& tile, int64_t first) const {
    const int64_t end = p_.seen_from(tile).to, last = first + kStep < end ? first + kStep : end;
    // Rows of one block follow each other, as a rule without a gap.
    const int64_t run = a_.block_size % kTileSide == 0 && stride[2] == a_.head_dim ? kTileSide : 1;
    for (int64_t key = first; key < last; key += run) {
      prefetch_lines(reinterpret_cast<const char*>(row_at(cache, stride, tile, key)), run * a_.head_dim * 2);
    }
  }

  const Problem& p_;
  const AttentionArgs& a_;
  const int64_t steps_, max_rows_;
};

#endif

}  // namespace octavo::OCTAVO_ISA
