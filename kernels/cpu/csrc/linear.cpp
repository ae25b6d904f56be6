// Matrix products on packed weights.
//
// A weight [N, K] is packed once into panels of 32 columns (rows of the weight): [N / 32][K][32], for bf16 with pairs of k
// side by side: [N / 32][K / 2][32][2]. N and K are padded with zeros to multiples of 32. A panel is read front to back
// once for every few rows of x, so that few rows cost one pass over the weights. An output element is one sum over k in an
// order that neither the number of rows nor the number of threads changes.
#include "linear_amx.h"
#include "linear_bf16.h"
#include "linear_dense.h"
#include "table.h"

namespace octavo::OCTAVO_ISA {
namespace {

constexpr int64_t kRowBlock = 256;         // rows of x worked on together, so that they stay in the cache
constexpr int64_t kSharedWork = 1 << 16;   // multiply-adds below which one thread is faster than two

int64_t padded(int64_t size) { return (size + kPanel - 1) / kPanel * kPanel; }

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

[[maybe_unused]] void convert_row(bf16* to, const bf16* from, int64_t size) { std::memcpy(to, from, size * sizeof(bf16)); }

template <typename T>
void convert_row(float* to, const T* from, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(to + i, load(from + i));
  for (; i < size; ++i) to[i] = to_float(from[i]);
}

// Rows of x as the kernel reads them: in its type, zero past K. As they are where that will do.
template <typename Input>
struct Prepared {
  const Input* data;
  int64_t stride;
};

template <typename Input, typename T>
Prepared<Input> prepare(const LinearArgs& a, int64_t first, int64_t rows, int64_t depth) {
  const T* x = static_cast<const T*>(a.x.data) + first * a.x.stride;
  if constexpr (sizeof(Input) == sizeof(T)) {
    if (a.k == depth) return {reinterpret_cast<const Input*>(x), a.x.stride};
  }
  Input* to = static_cast<Input*>(shared_scratch(static_cast<size_t>(rows * depth) * sizeof(Input)));
  parallel_rows(rows, depth, [&](int64_t row) {
    convert_row(to + row * depth, x + row * a.x.stride, a.k);
    std::memset(static_cast<void*>(to + row * depth + a.k), 0, (depth - a.k) * sizeof(Input));
  });
  return {to, depth};
}

// Sums [rows, 32] plus bias -> the panel's columns of the output.
template <typename T, typename Out>
void write_panel(const LinearArgs& a, int64_t first, int64_t rows, int64_t column, const float* sums) {
  const T* bias = a.bias ? static_cast<const T*>(a.bias) + column : nullptr;
  const int64_t columns = a.n - column < kPanel ? a.n - column : kPanel;
  for (int64_t row = 0; row < rows; ++row) {
    Out* out = static_cast<Out*>(a.out.data) + (first + row) * a.out.stride + column;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t some = columns - c;
      Vec sum = load(sums + row * kPanel + c);
      if (bias) sum += some < kLanes ? load_some(bias + c, some) : load(bias + c);
      if (some < kLanes) {
        store_some(out + c, sum, some);
      } else {
        store(out + c, sum);
      }
    }
  }
}

template <typename T>
void multiply_panel(const LinearArgs& a, int64_t panel, int64_t first, int64_t rows,
                    const Prepared<typename Choose<T>::Kernel::Input>& x, int64_t depth) {
  using Kernel = typename Choose<T>::Kernel;
  alignas(64) float sums[Kernel::kRows * kPanel];
  const T* weights = static_cast<const T*>(a.packed) + panel * depth * kPanel;
  for (int64_t row = 0; row < rows; row += Kernel::kRows) {
    const int64_t count = rows - row < Kernel::kRows ? rows - row : Kernel::kRows;
    Kernel::run(static_cast<int>(count), x.data + row * x.stride, x.stride, weights, depth, sums);
    if (a.wide) {
      write_panel<T, float>(a, first + row, count, panel * kPanel, sums);
    } else {
      write_panel<T, T>(a, first + row, count, panel * kPanel, sums);
    }
  }
}

template <typename T>
void multiply(const LinearArgs& a) {
  using Kernel = typename Choose<T>::Kernel;
  const int64_t depth = padded(a.k), panels = padded(a.n) / kPanel;
  const int64_t run = panels / (num_threads() * 16) > 0 ? panels / (num_threads() * 16) : 1;
  for (int64_t first = 0; first < a.rows; first += kRowBlock) {
    const int64_t rows = a.rows - first < kRowBlock ? a.rows - first : kRowBlock;
    const auto x = prepare<typename Kernel::Input, T>(a, first, rows, depth);
    parallel_for((panels + run - 1) / run, rows * a.n * a.k > kSharedWork, [&](int64_t task) {
      Kernel::begin();
      for (int64_t panel = task * run; panel < (task + 1) * run && panel < panels; ++panel) {
        multiply_panel<T>(a, panel, first, rows, x, depth);
      }
      Kernel::end();
    });
  }
}

// Where element (n, k) of a weight lies in its packed form.
template <typename T>
int64_t packed_index(int64_t n, int64_t k, int64_t depth) {
  const int64_t panel = n / kPanel * depth * kPanel, column = n % kPanel;
  if constexpr (DensePanel<T>::kStep == 2) return panel + k / 2 * 2 * kPanel + column * 2 + k % 2;
  return panel + k * kPanel + column;
}

template <typename T>
void pack_panel(const PackArgs& a, int64_t panel, int64_t depth) {
  constexpr int64_t kStep = DensePanel<T>::kStep;
  T* to = static_cast<T*>(a.packed) + panel * depth * kPanel;
  for (int64_t k = 0; k < depth; k += kStep) {
    for (int64_t c = 0; c < kPanel; ++c) {
      const int64_t n = panel * kPanel + c;
      const T* from = static_cast<const T*>(a.weight.data) + n * a.weight.stride + k;
      for (int64_t i = 0; i < kStep; ++i) *to++ = n < a.n && k + i < a.k ? from[i] : T{};
    }
  }
}

}  // namespace

void linear(const LinearArgs& args) { OCTAVO_DISPATCH(args.dtype, T, multiply<T>(args)); }

void pack_linear(const PackArgs& args) {
  const int64_t depth = padded(args.k), panels = padded(args.n) / kPanel;
  OCTAVO_DISPATCH(args.dtype, T,
                  parallel_for(panels, true, [&](int64_t panel) { pack_panel<T>(args, panel, depth); }));
}

void unpack_row(const PackedRowArgs& a) {
  const int64_t depth = padded(a.k);
  OCTAVO_DISPATCH(a.dtype, T, for (int64_t k = 0; k < a.k; ++k) {
    static_cast<T*>(a.out)[k] = static_cast<const T*>(a.packed)[packed_index<T>(a.row, k, depth)];
  });
}

}  // namespace octavo::OCTAVO_ISA
