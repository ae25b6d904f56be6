// Matrix products of integers: x is rounded to 8 bits.
#include "linear/blocks.h"
#include "linear/blocks_amx.h"
#include "linear/groups.h"
#include "linear/int8_amx.h"
#include "linear/int8_vnni.h"
#include "base/table.h"

#include <optional>

namespace octavo::OCTAVO_ISA {
namespace {

#if defined(OCTAVO_AMX)
template <typename Form>
using ChooseBlocks = BlockTileKernel<Form>;
using Int8Kernel = ByteTileKernel;
#elif defined(__AVX512VNNI__)
template <typename Form>
using ChooseBlocks = BlockKernel<Form>;
using Int8Kernel = VnniKernel;
#else
template <typename Form>
using ChooseBlocks = BlockKernel<Form>;
using Int8Kernel = PairKernel;
#endif

// A panel's product with groups of rows; kernels know their own panels.
template <typename Kernel, typename T>
class QuantizedProduct {
 public:
  QuantizedProduct(const LinearArgs& args, const Groups<Kernel, T>& x, const Block& block)
      : a_(args), writer_(args), x_(x), block_(block), depth_(padded(args.weight.k)) {}

  void operator()(int64_t panel) const {
    alignas(64) float sums[Kernel::kRows * kPanel];
    const char* weights = static_cast<const char*>(a_.weight.data) + panel * Kernel::panel_bytes(depth_);
    for (int64_t group = 0, row = 0; row < block_.rows; ++group, row += Kernel::kRows) {
      const int64_t count = block_.rows - row < Kernel::kRows ? block_.rows - row : Kernel::kRows;
      Kernel::run(static_cast<int>(count), x_.at(block_.first_group + group), weights, depth_, row > 0, sums);
      writer_({sums, block_.first_row + row, count, panel * kPanel});
    }
  }

 private:
  const LinearArgs& a_;
  const PanelWriter<T> writer_;
  const Groups<Kernel, T>& x_;
  const Block block_;
  const int64_t depth_;
};

#if defined(OCTAVO_AMX)
// Blocks of a panel for few rows; meanwhile the sums of the panel before are written.
template <typename T, Epilogue kEpilogue>
class WritingBlocks {
 public:
  WritingBlocks(const void* data, PendingRows<T>& rows) : blocks_(data), rows_(rows) {}

  OCTAVO_INLINE const int8_t* at(int64_t k) const { return blocks_.at(k); }
  OCTAVO_INLINE void work() const { rows_.template step<kEpilogue, true>(); }

 private:
  const DenseBlocks<int8_t, kByteBlock> blocks_;
  PendingRows<T>& rows_;
};

// Products of 8 bits with tiles, whose sums are scaled when they are written.
template <typename Kernel, typename T>
class ByteProduct {
 public:
  ByteProduct(const LinearArgs& args, const Groups<Kernel, T>& x, const Block& block)
      : a_(args), x_(x), block_(block), depth_(byte_depth(args.weight.k)), rows_(PanelWriter<T>(args)) {
    const auto* data = static_cast<const int8_t*>(args.weight.data);
    if (block.rows > Kernel::kRows) {
      const DenseParts<int8_t> parts(data + sizeof(PanelHead), Kernel::panel_bytes(depth_));
      many_.emplace(args, depth_, x, block, PanelWriter<T>(args), parts);
    }
    rows_.share(depth_ / kByteBlock);
  }
  ~ByteProduct() { rows_.finish(); }

  void operator()(int64_t panel) {
    const char* data = static_cast<const char*>(a_.weight.data) + panel * Kernel::panel_bytes(depth_);
    const auto* head = reinterpret_cast<const PanelHead*>(data);
    if (many_) return many_->multiply(panel, head->scales);
    with_epilogue(a_.epilogue, [&](auto epilogue) { multiply_once<epilogue()>(panel, *head); });
  }

 private:
  template <Epilogue kEpilogue>
  void multiply_once(int64_t panel, const PanelHead& head) {
    const char* x = x_.at(block_.first_group);
    float* to = sums_[panel % 2];
    const Sums sums{to, block_.first_row, block_.rows, panel * kPanel, Kernel::row_scales(x), head.scales};
    PendingRows<T> rows = rows_;  // which nothing written here can be part of
    rows.template expect<kEpilogue>(sums);
    WritingBlocks<T, kEpilogue> blocks(&head + 1, rows);
    Kernel::run(static_cast<int>(block_.rows), x, blocks, depth_, {0, depth_}, to);
    rows.template start<kEpilogue, true>(sums);
    rows_ = rows;
  }

  const LinearArgs& a_;
  const Groups<Kernel, T>& x_;
  const Block block_;
  const int64_t depth_;
  PendingRows<T> rows_;
  alignas(64) float sums_[2][Kernel::kRows * kPanel];
  std::optional<GroupsProduct<Kernel, T, DenseParts<int8_t>>> many_;
};
#else
template <typename Kernel, typename T>
using ByteProduct = QuantizedProduct<Kernel, T>;
#endif

template <typename T>
void multiply_format(const LinearArgs& a) {
  if (a.weight.format == Format::int8) return multiply<ByteProduct, Int8Kernel, T>(a);
  with_blocks(a.weight.format, [&](auto form) { multiply<QuantizedProduct, ChooseBlocks<decltype(form)>, T>(a); });
}

}  // namespace

void linear_integer(const LinearArgs& args) { OCTAVO_DISPATCH(args.dtype, T, multiply_format<T>(args)); }

}  // namespace octavo::OCTAVO_ISA
