// The Python module: addresses, strides and sizes in, nothing allocated, the interpreter's lock released in every kernel.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>

#include "bindings/bindings.h"
#include "base/dispatch.h"
#include "base/thread_pool.h"

namespace nb = nanobind;
using namespace octavo;

namespace {

using Strides2 = std::array<int64_t, 2>;
using Strides3 = std::array<int64_t, 3>;

template <size_t N>
void copy(const std::array<int64_t, N>& from, int64_t* to) {
  std::copy(from.begin(), from.end(), to);
}

void rms_norm(int dtype, int weight_dtype, bool wide, Address out, Address x, int64_t x_stride, int64_t x_inner_stride,
              Address residual, int64_t residual_stride, Address weight, Address bias, bool centred, int64_t outer, int64_t inner, int64_t size,
              float eps) {
  kernels().rms_norm({DType(dtype), DType(weight_dtype), wide, {at<void>(out), size}, {at<void>(x), x_stride},
                      {at<void>(residual), residual_stride}, at<void>(weight), at<void>(bias), centred, outer, inner, x_inner_stride, size,
                      eps});
}

void activate(int dtype, int activation, Address out, Address x, int64_t x_stride, int64_t rows, int64_t size) {
  kernels().activate({DType(dtype), Activation(activation), {at<void>(out), size}, {at<void>(x), x_stride}, rows, size});
}

GateArgs gate(int dtype, Address out, Address x, int64_t x_stride, int64_t rows, int64_t size) {
  return {DType(dtype), {at<void>(out), size}, {at<void>(x), x_stride}, rows, size};
}

void silu_and_mul(int dtype, Address out, Address x, int64_t x_stride, int64_t rows, int64_t size) {
  kernels().silu_and_mul(gate(dtype, out, x, x_stride, rows, size));
}

void gelu_and_mul(int dtype, Address out, Address x, int64_t x_stride, int64_t rows, int64_t size) {
  kernels().gelu_and_mul(gate(dtype, out, x, x_stride, rows, size));
}

bool rope_and_cache(int dtype, int cache_dtype, Address q, Strides2 q_stride, Address k, Strides2 k_stride, Address v,
                    Strides2 v_stride, Address positions, Address cos_sin, int64_t num_positions, int64_t rotary_dim,
                    Address slots, Address k_cache, Strides3 k_cache_stride, Address v_cache, Strides3 v_cache_stride,
                    int64_t num_tokens, int64_t num_heads, int64_t num_kv_heads, int64_t head_dim, int64_t num_blocks,
                    int64_t block_size) {
  RopeArgs a{};
  a.dtype = DType(dtype);
  a.cache_dtype = DType(cache_dtype);
  a.q = at<void>(q);
  a.k = at<void>(k);
  a.v = at<void>(v);
  copy(q_stride, a.q_stride);
  copy(k_stride, a.k_stride);
  copy(v_stride, a.v_stride);
  a.positions = at<int64_t>(positions);
  a.cos_sin = at<float>(cos_sin);
  a.num_positions = num_positions;
  a.rotary_dim = rotary_dim;
  a.slots = at<int64_t>(slots);
  a.k_cache = at<void>(k_cache);
  a.v_cache = at<void>(v_cache);
  copy(k_cache_stride, a.k_cache_stride);
  copy(v_cache_stride, a.v_cache_stride);
  a.num_tokens = num_tokens;
  a.num_heads = num_heads;
  a.num_kv_heads = num_kv_heads;
  a.head_dim = head_dim;
  a.num_blocks = num_blocks;
  a.block_size = block_size;
  return kernels().rope_and_cache(a);
}

bool paged_attention(int dtype, int cache_dtype, Address out, Address q, Strides2 q_stride, Address k_cache,
                     Strides3 k_cache_stride, Address v_cache, Strides3 v_cache_stride, Address query_starts,
                     Address seq_lens, Address block_tables, int64_t block_table_stride, int64_t num_requests,
                     int64_t num_heads, int64_t num_kv_heads, int64_t head_dim, int64_t num_blocks, int64_t block_size,
                     int64_t max_blocks, float scale, float soft_cap, int64_t sliding_window, bool full) {
  AttentionArgs a{};
  a.dtype = DType(dtype);
  a.cache_dtype = DType(cache_dtype);
  a.out = at<void>(out);
  a.q = at<void>(q);
  copy(q_stride, a.q_stride);
  a.k_cache = at<void>(k_cache);
  a.v_cache = at<void>(v_cache);
  copy(k_cache_stride, a.k_cache_stride);
  copy(v_cache_stride, a.v_cache_stride);
  a.query_starts = at<int32_t>(query_starts);
  a.seq_lens = at<int32_t>(seq_lens);
  a.block_tables = at<int32_t>(block_tables);
  a.block_table_stride = block_table_stride;
  a.num_requests = num_requests;
  a.num_heads = num_heads;
  a.num_kv_heads = num_kv_heads;
  a.head_dim = head_dim;
  a.num_blocks = num_blocks;
  a.block_size = block_size;
  a.max_blocks = max_blocks;
  a.scale = scale;
  a.soft_cap = soft_cap;
  a.sliding_window = sliding_window;
  a.full = full;
  return kernels().paged_attention(a);
}

bool embedding(int dtype, const Weight* packed, Address table, int64_t stride, Address out, Address ids, bool wide_ids,
               int64_t num_ids, int64_t vocab_size, int64_t size) {
  return kernels().embedding({DType(dtype), packed, {at<void>(table), stride}, at<void>(out), at<void>(ids), wide_ids, num_ids,
                              vocab_size, size});
}

void linear(int dtype, int epilogue, float scale, Address out, int64_t out_stride, Address x, int64_t x_stride, int64_t rows,
            const Weight& weight) {
  kernels().linear(
      {DType(dtype), Epilogue(epilogue), scale, {at<void>(out), out_stride}, {at<void>(x), x_stride}, rows, weight, nullptr});
}

void pack_linear(int dtype, bool gated, Address packed, Address weight, int64_t weight_stride, int64_t n, int64_t k) {
  kernels().pack_linear({DType(dtype), gated, at<void>(packed), {at<void>(weight), weight_stride}, n, k});
}

int64_t compact_linear(Address compact, Address dense, int64_t n, int64_t k, int64_t capacity) {
  return kernels().compact_linear({at<void>(compact), at<void>(dense), n, k, capacity});
}

void pack_int8(int dtype, bool gated, Address packed, Address weight, int64_t weight_stride, int64_t n, int64_t k) {
  kernels().pack_int8({DType(dtype), gated, at<void>(packed), {at<void>(weight), weight_stride}, n, k});
}
void pack_blocks(int format, bool gated, Address packed, Address blocks, int64_t n, int64_t k) {
  kernels().pack_blocks(Format(format), {DType::f32, gated, at<void>(packed), {at<void>(blocks), 0}, n, k});
}

int64_t blocks_bytes(int format, int64_t n, int64_t k) { return kernels().blocks_bytes(Format(format), n, k); }

void make_weight(Weight* self, int format, int dtype, int stored, bool integer, Address data, Address bias, int64_t n, int64_t k) {
  new (self) Weight{Format(format), DType(dtype), DType(stored), integer, at<void>(data), at<void>(bias), n, k};
}

void sample(Address logits, int64_t stride, int64_t rows, int64_t vocab_size, Address draws, Address tokens, Address peaks) {
  kernels().sample({at<float>(logits), stride, rows, vocab_size, at<Draw>(draws), at<int64_t>(tokens), at<float>(peaks)});
}

bool sample_linear(int dtype, Address x, int64_t x_stride, int64_t rows, const Weight& weight, Address draws, Address tokens,
                   Address peaks, Address runs) {
  return kernels().sample_linear({DType(dtype), {at<void>(x), x_stride}, rows, weight, at<Draw>(draws), at<int64_t>(tokens),
                                  at<float>(peaks), at<float>(runs)});
}

bool top_logprobs(Address logits, int64_t stride, int64_t rows, int64_t vocab_size, Address chosen, int64_t k, Address ids,
                  Address logprobs, Address ranks) {
  return kernels().top_logprobs({at<float>(logits), stride, rows, vocab_size, at<int64_t>(chosen), k, at<int32_t>(ids),
                                 at<float>(logprobs), at<int32_t>(ranks)});
}

int64_t read_memory(Address data, int64_t bytes) { return kernels().read_memory(at<void>(data), bytes); }

int64_t multiply(int dtype, int64_t rounds) { return kernels().multiply(DType(dtype), rounds); }

std::string isa() { return kernels().name; }

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Native kernels; use octavo.kernels.ops.";
  m.def("isa", &isa);
  m.def("best_isa", &best_isa);
  m.def("available_isas", &available_isas);
  m.def("select_isa", &select_isa);
  const auto unlocked = nb::call_guard<nb::gil_scoped_release>();
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, unlocked);
  m.def("rms_norm", &rms_norm, unlocked);
  m.def("activate", &activate, unlocked);
  m.def("silu_and_mul", &silu_and_mul, unlocked);
  m.def("gelu_and_mul", &gelu_and_mul, unlocked);
  m.def("rope_and_cache", &rope_and_cache, unlocked);
  m.def("paged_attention", &paged_attention, unlocked);
  m.def("embedding", &embedding, nb::arg("dtype"), nb::arg("packed").none(), nb::arg("table"), nb::arg("stride"), nb::arg("out"),
        nb::arg("ids"), nb::arg("wide_ids"), nb::arg("num_ids"), nb::arg("vocab_size"), nb::arg("size"), unlocked);
  nb::class_<Weight>(m, "Weight").def("__init__", &make_weight);
  m.def("linear", &linear, unlocked);
  m.def("pack_linear", &pack_linear, unlocked);
  m.def("compact_linear", &compact_linear, unlocked);
  m.def("pack_int8", &pack_int8, unlocked);
  m.def("pack_blocks", &pack_blocks, unlocked);
  m.def("blocks_bytes", &blocks_bytes);
  m.def("sample", &sample, unlocked);
  m.def("sample_linear", &sample_linear, unlocked);
  m.def("top_logprobs", &top_logprobs, unlocked);
  m.def("read_memory", &read_memory, unlocked);
  m.def("multiply", &multiply, unlocked);
  bind_program(m);
}
