// Matrix products on packed weights.
//
// Panels of a weight are shared out to the threads; each is read from memory once for all rows of x. An output element is
// one sum over k in an order that neither the number of rows nor the number of threads changes.
#include "linear_amx.h"
#include "linear_bf16.h"
#include "linear_compact.h"
#include "linear_dense.h"
#include "linear_epilogue.h"
#include "table.h"

#include <type_traits>

namespace octavo::OCTAVO_ISA {
namespace {

constexpr int64_t kRowBlock = 256;        // rows of x worked on together, so that they stay in the cache
constexpr int64_t kSharedWork = 1 << 16;  // multiply-adds below which one thread is faster than two
constexpr int64_t kRunsPerThread = 16;

template <typename T>
struct Choose {
  using Kernel = DenseKernel<T>;
};
#if defined(OCTAVO_AMX)
template <>
struct Choose<bf16> {
  using Kernel = AmxKernel;
};
#elif defined(__AVX512BF16__)
template <>
struct Choose<bf16> {
  using Kernel = Bf16Kernel;
};
#endif

// Rows of x in the kernel's own order, in memory of the calling thread.
template <typename Kernel, typename T>
const char* prepare(const LinearArgs& a, int64_t first, int64_t rows, int64_t depth) {
  const int64_t groups = (rows + Kernel::kRows - 1) / Kernel::kRows, bytes = Kernel::group_bytes(depth);
  char* to = static_cast<char*>(shared_scratch(static_cast<size_t>(groups * bytes)));
  const T* x = static_cast<const T*>(a.x.data) + first * a.x.stride;
  parallel_rows(rows, depth, [&](int64_t row) {
    Kernel::prepare(to + row / Kernel::kRows * bytes, row % Kernel::kRows, x + row * a.x.stride, a.weight.k, depth);
  });
  return to;
}

// A panel's product with groups of rows.
template <typename Kernel, typename T>
class PanelProduct {
 public:
  PanelProduct(const LinearArgs& args, const char* x, int64_t first, int64_t rows)
      : a_(args), writer_(args), x_(x), first_(first), rows_(rows), depth_(padded(args.weight.k)) {}

  // A compact panel is decoded on the way for one group, and once beforehand for several.
  void operator()(int64_t panel) const {
    const char* dense = static_cast<const char*>(a_.weight.data) + panel * Kernel::panel_bytes(depth_);
    if (a_.weight.format == Format::dense) {
      DenseBlocks<T, true> blocks(dense);
      multiply(blocks, panel, 0);
    } else if (rows_ <= Kernel::kRows) {
      return multiply_compact(panel);
    } else {
      dense = decoded(panel);
      DenseBlocks<T, false> blocks(dense);
      multiply(blocks, panel, 0);
    }
    DenseBlocks<T, false> again(dense);
    for (int64_t row = Kernel::kRows; row < rows_; row += Kernel::kRows) multiply(again, panel, row);
  }

 private:
  template <typename Blocks>
  void multiply(Blocks& blocks, int64_t panel, int64_t row) const {
    alignas(64) float sums[Kernel::kRows * kPanel];
    const int64_t count = rows_ - row < Kernel::kRows ? rows_ - row : Kernel::kRows;
    Kernel::run(static_cast<int>(count), x_ + row / Kernel::kRows * Kernel::group_bytes(depth_), blocks, depth_, sums);
    writer_({sums, first_ + row, count, panel * kPanel});
  }

  void multiply_compact(int64_t panel) const {
    if constexpr (std::is_same_v<T, bf16>) {
      CompactBlocks blocks(a_.weight, panel, depth_);
      multiply(blocks, panel, 0);
    }
  }

  const char* decoded(int64_t panel) const {
    bf16* to = static_cast<bf16*>(scratch(static_cast<size_t>(depth_ * kPanel) * sizeof(bf16)));
    decode_panel(a_.weight, panel, depth_, to);
    return reinterpret_cast<const char*>(to);
  }

  const LinearArgs& a_;
  const PanelWriter<T> writer_;
  const char* const x_;
  const int64_t first_, rows_, depth_;
};

template <typename Kernel, typename T>
void multiply(const LinearArgs& a) {
  const int64_t depth = padded(a.weight.k), panels = padded(a.weight.n) / kPanel;
  const int64_t wanted = num_threads() * kRunsPerThread, run = panels > wanted ? panels / wanted : 1;
  for (int64_t first = 0; first < a.rows; first += kRowBlock) {
    const int64_t rows = a.rows - first < kRowBlock ? a.rows - first : kRowBlock;
    const PanelProduct<Kernel, T> product(a, prepare<Kernel, T>(a, first, rows, depth), first, rows);
    parallel_for((panels + run - 1) / run, rows * a.weight.n * a.weight.k > kSharedWork, [&](int64_t task) {
      Kernel::begin();
      for (int64_t panel = task * run; panel < (task + 1) * run && panel < panels; ++panel) {
        product(panel);
      }
      Kernel::end();
    });
  }
}

// The weight's row that packed column n holds, -1 for padding.
int64_t row_of_column(const PackArgs& a, int64_t n) {
  if (!a.gated) return n < a.n ? n : -1;
  const int64_t gate = n / kPanel * kHalf + n % kHalf;
  return gate >= a.n / 2 ? -1 : n % kPanel < kHalf ? gate : a.n / 2 + gate;
}

template <typename T>
void pack_column(const PackArgs& a, int64_t n, int64_t depth) {
  T* to = static_cast<T*>(a.packed);
  const int64_t row = row_of_column(a, n);
  const T* from = static_cast<const T*>(a.weight.data) + row * a.weight.stride;
  for (int64_t k = 0; k < depth; k += kStep<T>) {
    for (int64_t i = 0; i < kStep<T>; ++i) to[packed_index<T>(n, k + i, depth)] = row >= 0 && k + i < a.k ? from[k + i] : T{};
  }
}

}  // namespace

void linear(const LinearArgs& args) { OCTAVO_DISPATCH(args.dtype, T, multiply<Choose<T>::Kernel, T>(args)); }

void pack_linear(const PackArgs& args) {
  const int64_t depth = padded(args.k), columns = padded(args.n);
  OCTAVO_DISPATCH(args.dtype, T, parallel_for(columns / kPanel, true, [&](int64_t panel) {
                    for (int64_t n = panel * kPanel; n < (panel + 1) * kPanel; ++n) pack_column<T>(args, n, depth);
                  }));
}

int64_t compact_linear(const CompactArgs& a) {
  const int64_t depth = padded(a.k), panels = padded(a.n) / kPanel, bytes = compact_panel_bytes(depth);
  char* to = static_cast<char*>(a.compact);
  const bf16* from = static_cast<const bf16*>(a.dense);
  const auto header = [&](int64_t panel) -> CompactHeader& { return *reinterpret_cast<CompactHeader*>(to + panel * bytes); };
  parallel_for(panels, true, [&](int64_t panel) {
    const int64_t others = choose_exponents(from + panel * depth * kPanel, depth * kPanel, header(panel));
    header(panel).num_exceptions = static_cast<int32_t>(others);
  });
  int64_t total = 0;
  for (int64_t panel = 0; panel < panels; ++panel) {
    header(panel).first_exception = static_cast<int32_t>(total);
    total += header(panel).num_exceptions;
  }
  if (total > a.capacity) return -1;
  auto* exceptions = reinterpret_cast<Exception*>(to + panels * bytes);
  parallel_for(panels, true, [&](int64_t panel) {
    auto* blocks = reinterpret_cast<uint8_t*>(to + panel * bytes + sizeof(CompactHeader));
    encode_panel(from + panel * depth * kPanel, depth, header(panel), blocks, exceptions);
  });
  return panels * bytes + total * static_cast<int64_t>(sizeof(Exception));
}

void unpack_row(const Weight& weight, int64_t row, void* out) {
  const int64_t depth = padded(weight.k);
  if (weight.format == Format::compact) {
    const int64_t panel = row / kPanel, begin = panel * depth * kPanel;
    for (int64_t k = 0; k < weight.k; ++k) {
      static_cast<bf16*>(out)[k] = decode_one(weight, panel, depth, packed_index<bf16>(row, k, depth) - begin);
    }
    return;
  }
  OCTAVO_DISPATCH(weight.dtype, T, {
    const T* from = static_cast<const T*>(weight.data);
    T* to = static_cast<T*>(out);
    for (int64_t k = 0; k < weight.k; k += kStep<T>) {
      const int64_t some = weight.k - k < kStep<T> ? weight.k - k : kStep<T>;
      std::memcpy(to + k, from + packed_index<T>(row, k, depth), some * sizeof(T));
    }
  });
}

}  // namespace octavo::OCTAVO_ISA
