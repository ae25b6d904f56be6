#include "program/ops.h"

#include <algorithm>
#include <cstring>

#include "base/dispatch.h"

namespace octavo {
namespace {

// The residual stream (after adding what waits for it), normed -> `out`.
NormArgs norm_of_residual(const Run& run, const Operand& residual, bool wide, const Operand& addend, const NormWeight& norm,
                          DType dtype, const Operand& out, int64_t size) {
  const DType weight_dtype = norm.data ? norm.dtype : dtype;
  return {dtype, weight_dtype, wide, run(out), run(addend), run(residual), norm.data, norm.bias, norm.centred, run.rows, 1, 0, size,
          norm.eps};
}

// What attention and what writes the cache need to know of it. Args: AttentionArgs or RopeArgs.
template <typename Args>
void fill(Args& a, const PagedCache& cache) {
  a.cache_dtype = cache.dtype;
  a.k_cache = cache.keys;
  a.v_cache = cache.values;
  std::copy_n(cache.key_stride.data(), 3, a.k_cache_stride);
  std::copy_n(cache.value_stride.data(), 3, a.v_cache_stride);
  a.num_kv_heads = cache.num_kv_heads;
  a.head_dim = cache.head_dim;
  a.num_blocks = cache.num_blocks;
  a.block_size = cache.block_size;
}

// Writes k and v, unrotated, to their slots.
bool write(const Run& run, const Operand& k, const Operand& v, DType dtype, const PagedCache& cache, const int64_t* slots) {
  static constexpr float kNoRotation = 0.0f;
  RopeArgs a{};
  fill(a, cache);
  a.dtype = dtype;
  a.k = run.at(k);
  a.v = run.at(v);
  a.k_stride[0] = k.stride;
  a.v_stride[0] = v.stride;
  a.k_stride[1] = a.v_stride[1] = cache.head_dim;
  a.positions = run.fresh.zeros(run.rows);
  a.cos_sin = &kNoRotation;
  a.num_positions = 1;
  a.slots = slots;
  a.num_tokens = run.rows;
  return kernels().rope_and_cache(a);
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

bool ActivateOp::run(const Run& run) const {
  kernels().activate({dtype, activation, run(out), run(x), run.rows, size});
  return true;
}

bool AddOp::run(const Run& run) const {
  kernels().add({dtype, run(out), run(x), run(y), run.rows, size});
  return true;
}

bool WidenOp::run(const Run& run) const {
  kernels().widen({dtype, run(out), run(x), run.rows, size});
  return true;
}

bool NormOp::run(const Run& run) const {
  if (residual) {
    kernels().rms_norm(norm_of_residual(run, x, wide, addend, norm, dtype, out, size));
  } else {
    kernels().rms_norm({dtype, norm.dtype, false, run(out), run(x), {nullptr, 0}, norm.data, norm.bias, norm.centred, run.rows, parts,
                        size, size, norm.eps});
  }
  return true;
}

bool LinearOp::run(const Run& run) const {
  NormArgs prologue;
  if (normed) prologue = norm_of_residual(run, residual, wide, addend, norm, dtype, x, weight.k);
  kernels().linear({dtype, epilogue, scale, run(out), run(x), run.rows, weight, normed ? &prologue : nullptr});
  return true;
}

bool RopeOp::run(const Run& run) const {
  RopeArgs a{};
  fill(a, cache);
  a.dtype = dtype;
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
  a.num_tokens = run.rows;
  a.num_heads = num_heads;
  return kernels().rope_and_cache(a);
}

bool CacheWriteOp::run(const Run& run) const {
  return write(run, k, v, dtype, cache, run.step.groups[static_cast<size_t>(cache.group)].slots);
}

// What lies in them is not needed by the next op: all ops of a thread share the memory, which stays in its caches.
PagedCache AttendFreshOp::pages(int64_t num_blocks) const {
  static thread_local LargeArray memory;
  const int64_t token = head_dim, head = kFreshBlock * token, block = num_kv_heads * head;
  const int64_t bytes = num_blocks * block * (dtype == DType::f32 ? 4 : 2);
  char* keys = memory.get(static_cast<size_t>(2 * bytes));
  const std::array<int64_t, 3> strides{block, head, token};
  return {dtype, keys, keys + bytes, strides, strides, num_blocks, kFreshBlock, num_kv_heads, head_dim, 0};
}

bool AttendFreshOp::run(const Run& run) const {
  const Step& step = run.step;
  const FreshPages& fresh = run.fresh.pages(step, run.rows);
  const PagedCache cache = pages(fresh.num_blocks);
  if (!write(run, k, v, dtype, cache, fresh.slots.data())) return false;
  AttentionArgs a{};
  fill(a, cache);
  a.dtype = dtype;
  a.out = run.at(out);
  a.q = run.at(q);
  a.q_stride[0] = q.stride;
  a.q_stride[1] = head_dim;
  a.query_starts = step.query_starts;
  a.seq_lens = fresh.lengths.data();
  a.full = mask != Mask::causal;
  a.block_tables = fresh.tables.data();
  a.block_table_stride = a.max_blocks = fresh.max_blocks;
  a.num_requests = step.num_requests;
  a.num_heads = num_heads;
  a.scale = scale;
  a.soft_cap = soft_cap;
  a.sliding_window = sliding_window;
  return kernels().paged_attention(a);
}

bool AttendOp::run(const Run& run) const {
  const CacheGroup& group = run.step.groups[static_cast<size_t>(cache.group)];
  AttentionArgs a{};
  fill(a, cache);
  a.dtype = dtype;
  a.out = run.at(out);
  a.q = run.at(q);
  a.q_stride[0] = q.stride;
  a.q_stride[1] = cache.head_dim;
  a.query_starts = run.step.query_starts;
  a.seq_lens = mask == Mask::encoder ? run.step.encoder_lens : run.step.seq_lens;
  a.full = mask != Mask::causal;
  a.block_tables = group.block_tables;
  a.block_table_stride = group.block_table_stride;
  a.num_requests = run.step.num_requests;
  a.num_heads = num_heads;
  a.max_blocks = group.max_blocks;
  a.scale = scale;
  a.soft_cap = soft_cap;
  a.sliding_window = sliding_window;
  return kernels().paged_attention(a);
}

}  // namespace octavo
