// Matrix products on dense weights, in 16 bits a value or 12.
#include "linear/amx.h"
#include "linear/bf16.h"
#include "linear/groups.h"
#include "base/table.h"

#include <optional>
#include <type_traits>

namespace octavo::OCTAVO_ISA {
namespace {

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

// A panel's product with a block of rows.
template <typename Kernel, typename T>
class DenseProduct {
 public:
  DenseProduct(const LinearArgs& args, const Groups<Kernel, T>& x, const Block& block)
      : a_(args), writer_(args), x_(x), block_(block), depth_(padded(args.weight.k)) {
    if (block.rows <= kOnePass) return;
    if (args.weight.format == Format::dense) {
      many_dense_.emplace(args, depth_, x, block, writer_, DenseParts<T>(args, depth_, x.call()));
    } else if constexpr (std::is_same_v<T, bf16>) {
      many_compact_.emplace(args, depth_, x, block, writer_, Compact(args, depth_, x.call()));
    }
  }

  void operator()(int64_t panel) {
    if (many_dense_) {
      many_dense_->multiply(panel);
    } else if (many_compact_) {
      many_compact_->multiply(panel);
    } else if (a_.weight.format == Format::dense) {
      const int64_t bytes = Kernel::panel_bytes(depth_);
      multiply_once(panel, DenseBlocks<T>(static_cast<const char*>(a_.weight.data) + panel * bytes));
    } else if constexpr (std::is_same_v<T, bf16>) {
      multiply_once(panel, CompactBlocks(a_.weight, panel, depth_));
    }
  }

 private:
  static constexpr int64_t kOnePass = Kernel::kPairs ? 2 * Kernel::kRows : Kernel::kRows;  // rows

  // One group of rows, or two: the panel passes by once.
  template <typename Blocks>
  void multiply_once(int64_t panel, Blocks&& blocks) const {
    alignas(64) float sums[kOnePass * kPanel];
    if (block_.rows <= Kernel::kRows) {
      Kernel::run(static_cast<int>(block_.rows), x_.at(block_.first_group), blocks, depth_, {0, depth_}, sums);
    } else if constexpr (Kernel::kPairs) {
      Kernel::run_pair(x_.at(block_.first_group), x_.at(block_.first_group + 1), blocks, depth_, sums);
    }
    writer_({sums, block_.first_row, block_.rows, panel * kPanel});
  }

  // Compact weights are of bf16; of other types there is no such product.
  using Compact = std::conditional_t<std::is_same_v<T, bf16>, CompactParts, DenseParts<T>>;

  const LinearArgs& a_;
  const PanelWriter<T> writer_;
  const Groups<Kernel, T>& x_;
  const Block block_;
  const int64_t depth_;
  std::optional<GroupsProduct<Kernel, T, DenseParts<T>>> many_dense_;
  std::optional<GroupsProduct<Kernel, T, Compact>> many_compact_;
};

template <typename T>
void pack_column(const PackArgs& a, int64_t n, int64_t depth) {
  T* to = static_cast<T*>(a.packed);
  const int64_t row = row_of_column(a, n);
  const T* from = static_cast<const T*>(a.weight.data) + row * a.weight.stride;
  for (int64_t k = 0; k < depth; k += kInterleaved<T>) {
    for (int64_t i = 0; i < kInterleaved<T>; ++i) to[packed_index<T>(n, k + i, depth)] = row >= 0 && k + i < a.k ? from[k + i] : T{};
  }
}

template <typename T>
void unpack_dense_row(const Weight& weight, int64_t row, T* to) {
  const int64_t depth = padded(weight.k);
  const T* from = static_cast<const T*>(weight.data);
  for (int64_t k = 0; k < weight.k; k += kInterleaved<T>) {
    const int64_t some = weight.k - k < kInterleaved<T> ? weight.k - k : kInterleaved<T>;
    std::memcpy(to + k, from + packed_index<T>(row, k, depth), some * sizeof(T));
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
    case Format::compact: return decode_column(weight, row, static_cast<bf16*>(out));
    case Format::int8: return unpack_int8_row(weight, row, out);
    default: return unpack_blocks_row(weight, row, out);
  }
}

}  // namespace octavo::OCTAVO_ISA
