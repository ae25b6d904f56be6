#include "program_ops.h"

#include <algorithm>
#include <cstring>

#include "dispatch.h"

namespace octavo {
namespace {

// The residual stream (after adding what waits for it), normed -> `out`.
NormArgs norm_of_residual(const Run& run, const Operand& residual, const Operand& addend, const NormWeight& norm, DType dtype,
                          const Operand& out, int64_t size) {
  const DType weight_dtype = norm.data ? norm.dtype : dtype;
  return {dtype, weight_dtype, true, run(out), run(addend), run(residual), norm.data, run.rows, 1, 0, size, norm.eps};
}

}  // namespace

bool CopyOp::run(const Run& run) const {
  for (int64_t i = 0; i < run.rows; ++i) {
    std::memcpy(run.at(out) + i * out.stride * item_bytes, run.at(x) + i * x.stride * item_bytes, static_cast<size_t>(row_bytes));
  }
  return true;
}

bool EmbedOp::run(const Run& run) const {
  return kernels().embedding({dtype, packed, table, run.at(out), run.at(ids), true, run.rows, vocab_size, size, scale});
}

bool WidenOp::run(const Run& run) const {
  kernels().widen({dtype, run(out), run(x), run.rows, size});
  return true;
}

bool NormOp::run(const Run& run) const {
  if (wide) {
    kernels().rms_norm(norm_of_residual(run, x, addend, norm, dtype, out, size));
  } else {
    kernels().rms_norm({dtype, norm.dtype, false, run(out), run(x), {nullptr, 0}, norm.data, run.rows, parts, size, size, norm.eps});
  }
  return true;
}

bool LinearOp::run(const Run& run) const {
  NormArgs prologue;
  if (normed) prologue = norm_of_residual(run, residual, addend, norm, dtype, x, weight.k);
  kernels().linear({dtype, epilogue, scale, run(out), run(x), run.rows, weight, normed ? &prologue : nullptr});
  return true;
}

bool RopeOp::run(const Run& run) const {
  RopeArgs a{};
  a.dtype = dtype;
  a.cache_dtype = cache.dtype;
  a.q = run.at(q);
  a.k = run.at(k);
  a.v = run.at(v);
  a.q_stride[0] = q.stride;
  a.k_stride[0] = k.stride;
  a.v_stride[0] = v.stride;
  a.q_stride[1] = a.k_stride[1] = a.v_stride[1] = cache.head_dim;
  a.positions = reinterpret_cast<const int64_t*>(run.at(positions));
  a.cos_sin = cos_sin;
  a.num_positions = num_positions;
  a.rotary_dim = rotary_dim;
  a.slots = run.step.groups[static_cast<size_t>(cache.group)].slots;
  a.k_cache = cache.keys;
  a.v_cache = cache.values;
  std::copy_n(cache.key_stride.data(), 3, a.k_cache_stride);
  std::copy_n(cache.value_stride.data(), 3, a.v_cache_stride);
  a.num_tokens = run.rows;
  a.num_heads = num_heads;
  a.num_kv_heads = cache.num_kv_heads;
  a.head_dim = cache.head_dim;
  a.num_blocks = cache.num_blocks;
  a.block_size = cache.block_size;
  return kernels().rope_and_cache(a);
}

bool AttendOp::run(const Run& run) const {
  const CacheGroup& group = run.step.groups[static_cast<size_t>(cache.group)];
  AttentionArgs a{};
  a.dtype = dtype;
  a.cache_dtype = cache.dtype;
  a.out = run.at(out);
  a.q = run.at(q);
  a.q_stride[0] = q.stride;
  a.q_stride[1] = cache.head_dim;
  a.k_cache = cache.keys;
  a.v_cache = cache.values;
  std::copy_n(cache.key_stride.data(), 3, a.k_cache_stride);
  std::copy_n(cache.value_stride.data(), 3, a.v_cache_stride);
  a.query_starts = run.step.query_starts;
  a.seq_lens = run.step.seq_lens;
  a.block_tables = group.block_tables;
  a.block_table_stride = group.block_table_stride;
  a.num_requests = run.step.num_requests;
  a.num_heads = num_heads;
  a.num_kv_heads = cache.num_kv_heads;
  a.head_dim = cache.head_dim;
  a.num_blocks = cache.num_blocks;
  a.block_size = cache.block_size;
  a.max_blocks = group.max_blocks;
  a.scale = scale;
  a.soft_cap = soft_cap;
  a.sliding_window = sliding_window;
  return kernels().paged_attention(a);
}

}  // namespace octavo
