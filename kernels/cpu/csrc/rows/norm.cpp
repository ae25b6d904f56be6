// Root-mean-square norm of many rows, and rows in float32.
#include "rows/norm.h"

#include "base/table.h"

namespace octavo::OCTAVO_ISA {

void rms_norm(const NormArgs& args) {
  OCTAVO_DISPATCH(args.dtype, T, parallel_rows(args.outer * args.inner, args.size, [&](int64_t row) { norm_row_at<T>(args, row); }));
}

void widen(const WidenArgs& args) {
  OCTAVO_DISPATCH(args.dtype, T, parallel_rows(args.rows, args.size, [&](int64_t row) {
                    round_row(static_cast<float*>(args.out.data) + row * args.out.stride,
                              static_cast<const T*>(args.x.data) + row * args.x.stride, args.size);
                  }));
}

}  // namespace octavo::OCTAVO_ISA
