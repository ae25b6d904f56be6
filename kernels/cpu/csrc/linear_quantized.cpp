// Matrix products on quantized weights.
#include "linear_blocks.h"
#include "linear_blocks_amx.h"
#include "linear_driver.h"
#include "linear_int8_amx.h"
#include "linear_int8_vnni.h"
#include "table.h"

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

template <typename T>
void multiply_format(const LinearArgs& a) {
  if (a.weight.format == Format::int8) return multiply<QuantizedProduct, Int8Kernel, T>(a);
  with_blocks(a.weight.format, [&](auto form) { multiply<QuantizedProduct, ChooseBlocks<decltype(form)>, T>(a); });
}

}  // namespace

void linear_quantized(const LinearArgs& args) { OCTAVO_DISPATCH(args.dtype, T, multiply_format<T>(args)); }

}  // namespace octavo::OCTAVO_ISA
