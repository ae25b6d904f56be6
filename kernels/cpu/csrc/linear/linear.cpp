// Matrix products on weights as values of x's type, whatever form these are stored in.
#include "linear/amx.h"
#include "linear/bf16.h"
#include "linear/compact.h"
#include "linear/groups.h"
#include "linear/values.h"
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

// Where the kernel's values come from.
enum class Origin { dense, compact, decoded };

Origin origin_of(const Weight& weight) {
  if (weight.format == Format::compact) return Origin::compact;
  return weight.format == Format::dense && weight.stored == weight.dtype ? Origin::dense : Origin::decoded;
}

// A panel's product with a block of rows.
template <typename Kernel, typename T>
class ValueProduct {
 public:
  ValueProduct(const LinearArgs& args, const Groups<Kernel, T>& x, const Block& block)
      : a_(args), origin_(origin_of(args.weight)), writer_(args), x_(x), block_(block), depth_(padded(args.weight.k)) {
    if (block.rows <= kOnePass) return;
    switch (origin_) {
      case Origin::dense: prepare_many(many_dense_); return;
      case Origin::compact: prepare_many(many_compact_); return;
      case Origin::decoded: prepare_many(many_decoded_); return;
    }
  }

  void operator()(int64_t panel) {
    if (many_dense_) return many_dense_->multiply(panel);
    if (many_compact_) return many_compact_->multiply(panel);
    if (many_decoded_) return many_decoded_->multiply(panel);
    multiply_once(panel);
  }

 private:
  // Compact weights are of bf16, which f16 does not hold.
  using Compact = std::conditional_t<std::is_same_v<T, f16>, ValueDecoder<T>, CompactDecoder<T>>;

  static constexpr int64_t kOnePass = Kernel::kPairs ? 2 * Kernel::kRows : Kernel::kRows;  // rows

  template <typename Parts>
  void prepare_many(std::optional<GroupsProduct<Kernel, T, Parts>>& many) {
    many.emplace(a_, depth_, x_, block_, writer_, Parts(a_, depth_, x_.call()));
  }

  void multiply_once(int64_t panel) const {
    switch (origin_) {
      case Origin::dense:
        return multiply_once(panel, DenseBlocks<T>(static_cast<const char*>(a_.weight.data) + panel * Kernel::panel_bytes(depth_)));
      case Origin::compact: return multiply_once(panel, DecodedBlocks<Compact>(a_.weight, panel, depth_));
      case Origin::decoded: return multiply_once(panel, DecodedBlocks<ValueDecoder<T>>(a_.weight, panel, depth_));
    }
  }

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

  const LinearArgs& a_;
  const Origin origin_;
  const PanelWriter<T> writer_;
  const Groups<Kernel, T>& x_;
  const Block block_;
  const int64_t depth_;
  std::optional<GroupsProduct<Kernel, T, DenseParts<T>>> many_dense_;
  std::optional<GroupsProduct<Kernel, T, DecodedParts<Compact>>> many_compact_;
  std::optional<GroupsProduct<Kernel, T, DecodedParts<ValueDecoder<T>>>> many_decoded_;
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

template <typename Stored, typename T>
void unpack_dense_row(const Weight& weight, int64_t row, T* to) {
  const int64_t depth = padded(weight.k);
  const Stored* from = static_cast<const Stored*>(weight.data);
  for (int64_t k = 0; k < weight.k; ++k) to[k] = converted<T>(from[packed_index<Stored>(row, k, depth)]);
}

}  // namespace

void linear(const LinearArgs& args) {
  if (args.weight.integer) return linear_integer(args);
  OCTAVO_DISPATCH(args.dtype, T, multiply<ValueProduct, Choose<T>::Kernel, T>(args));
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
    case Format::dense:
      OCTAVO_DISPATCH(weight.stored, Stored,
                      OCTAVO_DISPATCH(weight.dtype, T, unpack_dense_row<Stored>(weight, row, static_cast<T*>(out))));
      return;
    case Format::compact: OCTAVO_DISPATCH(weight.dtype, T, decode_column(weight, row, static_cast<T*>(out))); return;
    case Format::int8: return unpack_int8_row(weight, row, out);
    default: return unpack_blocks_row(weight, row, out);
  }
}

}  // namespace octavo::OCTAVO_ISA
