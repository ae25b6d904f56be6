// Attention of new tokens over their requests' paged contexts.
#include <cstring>

#include "attention/amx.h"
#include "attention/dense.h"
#include "attention/plan.h"
#include "base/table.h"

namespace octavo::OCTAVO_ISA {
namespace {

constexpr int64_t kSharedWork = 16384;  // multiply-adds below which one thread is faster than two

// Runs a plan with a kernel that reduces one split of one tile: its `load` prepares a tile's queries, its `reduce` says what
// a split holds for them, given also what this thread most likely reduces next.
template <typename Kernel>
class Attention {
 public:
  explicit Attention(const AttentionArgs& args)
      : p_(args), plan_(p_, Kernel::tile_rows(p_), Kernel::kRowMultiple), kernel_(p_, plan_.max_rows()) {}

  bool run() {
    if (!plan_.make()) return false;
    parallel_for(plan_.num_items(), plan_.work() > kSharedWork, [this](int64_t i) { work_off(i); });
    return p_.valid();
  }

 private:
  void work_off(int64_t number) const {
    const Item& item = plan_.item(number);
    Tile& tile = *item.tile;
    float* memory = static_cast<float*>(scratch(kernel_.bytes() + 2 * plan_.partial_floats() * sizeof(float)));
    float* kernel_memory = memory + 2 * plan_.partial_floats();
    kernel_.load(tile, kernel_memory);
    if (!tile.parts) return walk(number, memory, kernel_memory);
    for (int64_t split = 0; split < item.count; ++split) {
      kernel_.reduce(split_of(number, split), split_of(number, split + 1), kernel_memory, part(tile, item.first + split));
    }
    if (__atomic_sub_fetch(&tile.pending, 1, __ATOMIC_ACQ_REL) == 0) gather(tile);
  }

  // A split of an item; past its last one the first of the next item.
  TileSplit split_of(int64_t number, int64_t split) const {
    const Item& item = plan_.item(number);
    if (split < item.count) return {item.tile, item.tile->first_split + item.first + split};
    return number + 1 < plan_.num_items() ? split_of(number + 1, 0) : TileSplit{};
  }

  // One thread, all of a tile's splits.
  void walk(int64_t number, float* memory, float* kernel_memory) const {
    const Tile& tile = *plan_.item(number).tile;
    const Partial merged = plan_.partial(memory), next = plan_.partial(memory + plan_.partial_floats());
    kernel_.reduce(split_of(number, 0), split_of(number, 1), kernel_memory, merged);
    for (int64_t split = 1; split < tile.num_splits; ++split) {
      kernel_.reduce(split_of(number, split), split_of(number, split + 1), kernel_memory, next);
      merge(next, merged, tile.queries * p_.group);
    }
    write(tile, merged);
  }

  // Whoever finishes a shared tile's last item merges its splits.
  void gather(const Tile& tile) const {
    for (int64_t split = 1; split < tile.num_splits; ++split) merge(part(tile, split), part(tile, 0), tile.queries * p_.group);
    write(tile, part(tile, 0));
  }

  Partial part(const Tile& tile, int64_t split) const { return plan_.partial(tile.parts + split * plan_.partial_floats()); }

  // One function for both ways of running, so that both round alike.
  __attribute__((noinline)) void merge(const Partial& part, const Partial& merged, int64_t rows) const {
    for (int64_t first = 0; first < rows; first += kLanes) {
      float old_scale[kLanes], scale[kLanes];
      merge_totals(part, merged, first, old_scale, scale);
      for (int64_t row = first; row < rows && row < first + kLanes; ++row) {
        const Vec before = splat(old_scale[row - first]), now = splat(scale[row - first]);
        for (int64_t d = row * p_.width; d < (row + 1) * p_.width; d += kLanes) {
          store(merged.acc + d, fmadd(load(part.acc + d), now, load(merged.acc + d) * before));
        }
      }
    }
  }

  // kLanes rows; those past the last hold nothing that is read again.
  static void merge_totals(const Partial& part, const Partial& merged, int64_t first, float* old_scale, float* scale) {
    const Vec before = load(merged.maximum + first), now = load(part.maximum + first), top = max(now, before);
    const Vec from_before = relative(before, top), from_now = relative(now, top);
    store(merged.maximum + first, top);
    store(merged.total + first, fmadd(load(part.total + first), from_now, load(merged.total + first) * from_before));
    store(old_scale, from_before);
    store(scale, from_now);
  }

  // What sums relative to one maximum are to be scaled by to be relative to another; 0 where nothing has been seen.
  static Vec relative(Vec maximum, Vec top) { return maximum > splat(kMinusInfinity) ? exp(maximum - top) : Vec{}; }

  void write(const Tile& tile, const Partial& merged) const {
    const AttentionArgs& a = p_.args;
    OCTAVO_DISPATCH(a.dtype, T, {
      T* out = static_cast<T*>(a.out) + (tile.first_query * a.num_heads + tile.kv_head * p_.group) * a.head_dim;
      for (int64_t query = 0, row = 0; query < tile.queries; ++query, out += a.num_heads * a.head_dim) {
        for (int64_t head = 0; head < p_.group; ++head, ++row) {
          write_row(out + head * a.head_dim, merged.acc + row * p_.width, merged.total[row]);
        }
      }
    });
  }

  template <typename T>
  void write_row(T* out, const float* acc, float total) const {
    const Vec factor = splat(1.0f / total);
    const int64_t head_dim = p_.args.head_dim;
    int64_t d = 0;
    for (; d + kLanes <= head_dim; d += kLanes) store(out + d, load(acc + d) * factor);
    if (d < head_dim) store_some(out + d, load(acc + d) * factor, head_dim - d);
  }

  const Problem p_;
  Plan plan_;
  const Kernel kernel_;
};

// Queries of requests without keys attend to nothing, which gives zeros.
void zero_blind(const AttentionArgs& a) {
  const int64_t row = a.num_heads * a.head_dim * (a.dtype == DType::f32 ? 4 : 2);
  for (int64_t r = 0; r < a.num_requests; ++r) {
    const int64_t first = a.query_starts[r], queries = a.query_starts[r + 1] - first;
    if (a.seq_lens[r] == 0 && queries > 0) std::memset(static_cast<char*>(a.out) + first * row, 0, static_cast<size_t>(queries * row));
  }
}

}  // namespace

bool paged_attention(const AttentionArgs& args) {
  if (args.full) zero_blind(args);
#if defined(OCTAVO_AMX)
  if (in_tiles(args)) return Attention<AmxAttention>(args).run();
#endif
  return Attention<DenseAttention>(args).run();
}

}  // namespace octavo::OCTAVO_ISA
