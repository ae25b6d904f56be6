// Matrix products on dense weights, in 16 bits a value or 12.
#include "linear_amx.h"
#include "linear_bf16.h"
#include "linear_compact.h"
#include "linear_driver.h"
#include "table.h"

#include <type_traits>

namespace octavo::OCTAVO_ISA {
namespace {

constexpr int64_t kStretch = 640;         // at most so many k of a panel at a time, so that they stay in the first-level cache
constexpr int64_t kStretchRoom = kStretch * kPanel * 2;

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

// A panel's product with groups of rows.
template <typename Kernel, typename T>
class DenseProduct {
 public:
  DenseProduct(const LinearArgs& args, const char* x, int64_t first, int64_t rows)
      : a_(args), writer_(args), x_(x), first_(first), rows_(rows), depth_(padded(args.weight.k)),
        compact_(args.weight.format == Format::compact),
        panel_bytes_(compact_ ? compact_panel_bytes(depth_) : Kernel::panel_bytes(depth_)) {}

  void operator()(int64_t panel) const {
    if (rows_ > kOnePass) {
      multiply_groups(panel);
    } else if (compact_) {
      multiply_compact(panel);
    } else {
      const char* data = data_of(panel);
      multiply_once(panel, DenseBlocks<T>(data, 0, {data + kPrefetchBytes, kDenseBlockBytes}));
    }
  }

 private:
  static constexpr int64_t kOnePass = Kernel::kPairs ? 2 * Kernel::kRows : Kernel::kRows;  // rows
  static constexpr int64_t kDenseBlockBytes = kBlock * kPanel * static_cast<int64_t>(sizeof(T));

  const char* data_of(int64_t panel) const { return static_cast<const char*>(a_.weight.data) + panel * panel_bytes_; }

  void multiply_compact(int64_t panel) const {
    if constexpr (std::is_same_v<T, bf16>) multiply_once(panel, CompactBlocks(a_.weight, panel, depth_));
  }

  // One group of rows, or two: the panel passes by once.
  template <typename Blocks>
  void multiply_once(int64_t panel, Blocks&& blocks) const {
    alignas(64) float sums[kOnePass * kPanel];
    if (rows_ <= Kernel::kRows) {
      Kernel::run(static_cast<int>(rows_), x_, blocks, depth_, {0, depth_}, sums);
    } else if constexpr (Kernel::kPairs) {
      Kernel::run_pair(x_, blocks, depth_, sums);
    }
    writer_({sums, first_, rows_, panel * kPanel});
  }

  // Several groups: stretch after stretch of the panel is brought close (and decoded), then used by all of them, while the
  // next one is asked for.
  void multiply_groups(int64_t panel) const {
    const int64_t groups = (rows_ + Kernel::kRows - 1) / Kernel::kRows, sum_floats = Kernel::kRows * kPanel;
    float* sums = static_cast<float*>(scratch(static_cast<size_t>(groups * sum_floats) * 4 + kStretchRoom));
    char* room = reinterpret_cast<char*>(sums + groups * sum_floats);
    const int64_t parts = (depth_ + kStretch - 1) / kStretch, step = (depth_ / kBlock + parts - 1) / parts * kBlock;
    const int64_t block_bytes = compact_ ? kCompactBlock : kDenseBlockBytes, share = (block_bytes / groups + 63) / 64 * 64;
    for (int64_t k = 0; k < depth_; k += step) {
      const Stretch stretch{k, k + step < depth_ ? k + step : depth_};
      const char* next = data_of(panel) + stretch.to / kBlock * block_bytes;
      const void* dense = compact_ ? decoded(panel, stretch, room) : data_of(panel) + k / kBlock * kDenseBlockBytes;
      const bool last = stretch.to == depth_;
      for (int64_t group = 0; group < groups; ++group) {
        const Sums mine{sums + group * sum_floats, first_ + group * Kernel::kRows, rows_in(group), panel * kPanel};
        if (last) writer_.expect(mine);
        DenseBlocks<T> blocks(dense, k, {next + group * share * ((stretch.to - k) / kBlock), share});
        Kernel::run(static_cast<int>(mine.rows), x_ + group * Kernel::group_bytes(depth_), blocks, depth_, stretch,
                    sums + group * sum_floats);
        if (last) writer_(mine);
      }
    }
  }

  int64_t rows_in(int64_t group) const {
    const int64_t left = rows_ - group * Kernel::kRows;
    return left < Kernel::kRows ? left : Kernel::kRows;
  }

  const void* decoded(int64_t panel, Stretch stretch, char* room) const {
    bf16* to = reinterpret_cast<bf16*>(room);
    decode_stretch(a_.weight, panel, depth_, stretch, to);
    return to;
  }

  const LinearArgs& a_;
  const PanelWriter<T> writer_;
  const char* const x_;
  const int64_t first_, rows_, depth_;
  const bool compact_;
  const int64_t panel_bytes_;
};

template <typename T>
void pack_column(const PackArgs& a, int64_t n, int64_t depth) {
  T* to = static_cast<T*>(a.packed);
  const int64_t row = row_of_column(a, n);
  const T* from = static_cast<const T*>(a.weight.data) + row * a.weight.stride;
  for (int64_t k = 0; k < depth; k += kStep<T>) {
    for (int64_t i = 0; i < kStep<T>; ++i) to[packed_index<T>(n, k + i, depth)] = row >= 0 && k + i < a.k ? from[k + i] : T{};
  }
}

template <typename T>
void unpack_dense_row(const Weight& weight, int64_t row, T* to) {
  const int64_t depth = padded(weight.k);
  const T* from = static_cast<const T*>(weight.data);
  for (int64_t k = 0; k < weight.k; k += kStep<T>) {
    const int64_t some = weight.k - k < kStep<T> ? weight.k - k : kStep<T>;
    std::memcpy(to + k, from + packed_index<T>(row, k, depth), some * sizeof(T));
  }
}

void unpack_compact_row(const Weight& weight, int64_t row, bf16* to) {
  const int64_t depth = padded(weight.k), panel = row / kPanel, begin = panel * depth * kPanel;
  for (int64_t k = 0; k < weight.k; ++k) {
    to[k] = decode_one(weight, panel, depth, packed_index<bf16>(row, k, depth) - begin);
  }
}

}  // namespace

void linear(const LinearArgs& args) {
  if (args.weight.format != Format::dense && args.weight.format != Format::compact) return linear_quantized(args);
  OCTAVO_DISPATCH(args.dtype, T, multiply<DenseProduct, Choose<T>::Kernel, T>(args));
}

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
  switch (weight.format) {
    case Format::dense: OCTAVO_DISPATCH(weight.dtype, T, unpack_dense_row(weight, row, static_cast<T*>(out))); return;
    case Format::compact: return unpack_compact_row(weight, row, static_cast<bf16*>(out));
    case Format::int8: return unpack_int8_row(weight, row, out);
    default: return unpack_blocks_row(weight, row, out);
  }
}

}  // namespace octavo::OCTAVO_ISA
