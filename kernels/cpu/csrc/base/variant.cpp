// The table of this instruction set's kernels.
#include "base/table.h"

#define OCTAVO_STRING_(x) #x
#define OCTAVO_STRING(x) OCTAVO_STRING_(x)

namespace octavo::OCTAVO_ISA {

extern const Kernels kernels;
const Kernels kernels = {
    OCTAVO_STRING(OCTAVO_ISA), rms_norm, widen, activate, add, combine, silu_and_mul, gelu_and_mul, rope_and_cache, paged_attention,
    embedding, linear, pack_linear, compact_linear, pack_int8, pack_blocks, blocks_bytes, sample, sample_linear,
    top_logprobs, read_memory, multiply,
};

}  // namespace octavo::OCTAVO_ISA
