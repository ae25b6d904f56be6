// Reading a context before it is needed.
#pragma once

#include "attention/plan.h"
#include "attention/kv_tiles.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

// Chunks of 32 keys that hold some of those which a tile sees of a split, and where they lie.
struct LocatedSplit {
  static constexpr int64_t kChunks = kSplitKeys / kStep;

  int64_t base;  // its first key
  Keys keys, chunks;
  const bf16 *key_tiles[kChunks], *value_tiles[kChunks];
};

// Asks for what the tiles load of a split, in the order in which they do: the keys chunk by chunk, then of each chunk's values
// 32 numbers of the head, then the next 32, then the first keys of the split that comes next.
//
// A processor has few reads under way at a time, and a burst of many holds up what comes behind it. So each step of the tiles
// asks for as much as it loads itself, `kAhead` steps ahead.
class Prefetcher {
 public:
  // steps: of 32 numbers in a head. `next` has no chunks if nothing comes.
  Prefetcher(const LocatedSplit& now, const LocatedSplit& next, int64_t steps)
      : split_(&now), next_(&next), steps_(steps), chunk_(now.chunks.from) {
    for (int i = 0; i < kAhead; ++i) advance();  // asked for while the split before was worked on
  }

  OCTAVO_INLINE void step() {
    if (chunk_ >= split_->chunks.to) return;
    const bf16* tiles = (values_ ? split_->value_tiles : split_->key_tiles)[chunk_] + step_ * kStepNumbers;
    prefetch_lines(reinterpret_cast<const char*>(tiles), kStepNumbers * static_cast<int64_t>(sizeof(bf16)));
    advance();
  }

 private:
  static constexpr int kAhead = 4;
  static constexpr int64_t kStepNumbers = 2 * kTileSize;  // of the cache, that a step loads

  OCTAVO_INLINE void advance() {
    if (!values_) {
      if (++step_ < steps_) return;
      step_ = 0;
      if (++chunk_ < split_->chunks.to) return;
      values_ = true;
      chunk_ = split_->chunks.from;
      return;
    }
    if (++chunk_ < split_->chunks.to) return;
    chunk_ = split_->chunks.from;
    if (++step_ < steps_) return;
    step_ = 0;
    values_ = false;
    split_ = next_;
    chunk_ = split_->chunks.from;
  }

  const LocatedSplit *split_, *next_;
  const int64_t steps_;
  int64_t chunk_, step_ = 0;
  bool values_ = false;
};

#endif

}  // namespace octavo::OCTAVO_ISA
