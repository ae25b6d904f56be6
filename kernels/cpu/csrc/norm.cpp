// Root-mean-square norm of many rows.
#include "norm.h"

#include "table.h"

namespace octavo::OCTAVO_ISA {

void rms_norm(const NormArgs& args) {
  OCTAVO_DISPATCH(args.dtype, T, parallel_rows(args.outer * args.inner, args.size, [&](int64_t row) { norm_row_at<T>(args, row); }));
}

}  // namespace octavo::OCTAVO_ISA
