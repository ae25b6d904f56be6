// The kernels of the instruction set this translation unit is compiled for.
#pragma once

#include "base/kernels.h"

namespace octavo::OCTAVO_ISA {

void rms_norm(const NormArgs& args);
void widen(const WidenArgs& args);
void activate(const ActivateArgs& args);
void add(const AddArgs& args);
void combine(const CombineArgs& args);
void silu_and_mul(const GateArgs& args);
void gelu_and_mul(const GateArgs& args);
bool rope_and_cache(const RopeArgs& args);
bool paged_attention(const AttentionArgs& args);
bool embedding(const EmbeddingArgs& args);
void linear(const LinearArgs& args);
void pack_linear(const PackArgs& args);
int64_t compact_linear(const CompactArgs& args);
void pack_int8(const PackArgs& args);
void pack_blocks(Format format, const PackArgs& args);
int64_t blocks_bytes(Format format, int64_t n, int64_t k);
// The product of integers.
void linear_integer(const LinearArgs& args);
// A row of a packed weight, in its type.
void unpack_row(const Weight& weight, int64_t row, void* out);
void unpack_int8_row(const Weight& weight, int64_t row, void* out);
void unpack_blocks_row(const Weight& weight, int64_t row, void* out);
void sample(const SampleArgs& args);
bool sample_linear(const SampleLinearArgs& args);
bool top_logprobs(const LogprobArgs& args);
int64_t read_memory(const void* data, int64_t bytes);
int64_t multiply(DType dtype, int64_t rounds);

}  // namespace octavo::OCTAVO_ISA
