// The kernels of the instruction set this translation unit is compiled for.
#pragma once

#include "kernels.h"

namespace octavo::OCTAVO_ISA {

void rms_norm(const NormArgs& args);
void silu_and_mul(const GateArgs& args);
void gelu_and_mul(const GateArgs& args);
bool rope_and_cache(const RopeArgs& args);
bool paged_attention(const AttentionArgs& args);
bool embedding(const EmbeddingArgs& args);
void linear(const LinearArgs& args);
void pack_linear(const PackArgs& args);
void unpack_row(const PackedRowArgs& args);
void pack_blocks(Format format, const PackArgs& args);
int64_t blocks_bytes(Format format, int64_t n, int64_t k);
void unpack_blocks_row(Format format, const PackedRowArgs& args);
void argmax(const float* logits, int64_t stride, int64_t rows, int64_t vocab_size, int64_t* out);
void sample(const SampleArgs& args);
bool top_logprobs(const LogprobArgs& args);

}  // namespace octavo::OCTAVO_ISA
