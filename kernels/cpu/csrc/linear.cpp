// Matrix products on packed weights.
//
// Panels of a weight are shared out to the threads; each is read from memory once for all rows of x. An output element is
// one sum over k in an order that neither the number of rows nor the number of threads changes.
#include "linear_amx.h"
#include "linear_bf16.h"
#include "linear_blocks.h"
#include "linear_blocks_amx.h"
#include "linear_dense.h"
#include "linear_epilogue.h"
#include "table.h"

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

#if defined(OCTAVO_AMX)
template <typename Form>
using ChooseBlocks = BlockTileKernel<Form>;
#else
template <typename Form>
using ChooseBlocks = BlockKernel<Form>;
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

// Rows first .. first + rows - 1 times one panel.
template <typename Kernel, typename T>
void multiply_panel(const LinearArgs& a, const PanelWriter<T>& writer, const char* x, int64_t first, int64_t rows, int64_t panel,
                    int64_t depth) {
  alignas(64) float sums[Kernel::kRows * kPanel];
  const char* weights = static_cast<const char*>(a.weight.data) + panel * Kernel::panel_bytes(depth);
  for (int64_t row = 0; row < rows; row += Kernel::kRows, x += Kernel::group_bytes(depth)) {
    const int64_t count = rows - row < Kernel::kRows ? rows - row : Kernel::kRows;
    Kernel::run(static_cast<int>(count), x, weights, depth, row > 0, sums);
    writer({sums, first + row, count, panel * kPanel});
  }
}

template <typename Kernel, typename T>
void multiply(const LinearArgs& a) {
  const int64_t depth = padded(a.weight.k), panels = padded(a.weight.n) / kPanel;
  const int64_t wanted = num_threads() * kRunsPerThread, run = panels > wanted ? panels / wanted : 1;
  const PanelWriter<T> writer(a);
  for (int64_t first = 0; first < a.rows; first += kRowBlock) {
    const int64_t rows = a.rows - first < kRowBlock ? a.rows - first : kRowBlock;
    const char* x = prepare<Kernel, T>(a, first, rows, depth);
    parallel_for((panels + run - 1) / run, rows * a.weight.n * a.weight.k > kSharedWork, [&](int64_t task) {
      Kernel::begin();
      for (int64_t panel = task * run; panel < (task + 1) * run && panel < panels; ++panel) {
        multiply_panel<Kernel>(a, writer, x, first, rows, panel, depth);
      }
      Kernel::end();
    });
  }
}

template <typename T>
void multiply_format(const LinearArgs& a) {
  switch (a.weight.format) {
    case Format::dense: return multiply<typename Choose<T>::Kernel, T>(a);
    default: return with_blocks(a.weight.format, [&](auto form) { multiply<ChooseBlocks<decltype(form)>, T>(a); });
  }
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

void linear(const LinearArgs& args) { OCTAVO_DISPATCH(args.dtype, T, multiply_format<T>(args)); }

void pack_linear(const PackArgs& args) {
  const int64_t depth = padded(args.k), columns = padded(args.n);
  OCTAVO_DISPATCH(args.dtype, T, parallel_for(columns / kPanel, true, [&](int64_t panel) {
                    for (int64_t n = panel * kPanel; n < (panel + 1) * kPanel; ++n) pack_column<T>(args, n, depth);
                  }));
}

void unpack_row(const PackedRowArgs& a) {
  const int64_t depth = padded(a.k);
  OCTAVO_DISPATCH(a.dtype, T, {
    const T* from = static_cast<const T*>(a.packed);
    T* to = static_cast<T*>(a.out);
    for (int64_t k = 0; k < a.k; k += kStep<T>) {
      const int64_t some = a.k - k < kStep<T> ? a.k - k : kStep<T>;
      std::memcpy(to + k, from + packed_index<T>(a.row, k, depth), some * sizeof(T));
    }
  });
}

}  // namespace octavo::OCTAVO_ISA
