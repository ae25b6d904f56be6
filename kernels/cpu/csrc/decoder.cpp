#include "decoder.h"

#include <algorithm>
#include <utility>

#include "dispatch.h"

namespace octavo {
namespace {

int64_t bytes_of(DType dtype) { return dtype == DType::f32 ? 4 : 2; }

char* shifted(void* data, int64_t elements, DType dtype) { return static_cast<char*>(data) + elements * bytes_of(dtype); }

}  // namespace

template <typename Body>
auto Decoder::timed(Op op, const Body& body) {
  if (!profiling_) return body();
  struct Watch {
    double& total;
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
    ~Watch() { total += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }
  } watch{seconds_[static_cast<size_t>(op)]};
  return body();
}

std::array<double, static_cast<size_t>(Op::count)> Decoder::take_timings() { return std::exchange(seconds_, {}); }

bool Decoder::forward(const StepArgs& step) {
  for (const DecoderLayer& layer : layers_) {
    if (layer.group >= step.slots.size() || layer.group >= step.block_tables.size()) return false;
  }
  make_room(step.num_tokens);
  pending_ = false;
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!attend(layers_[i], i, step)) return false;
    feed_forward(layers_[i], step);
  }
  timed(Op::norm, [&] { kernels().rms_norm(entering(final_norm_, step, step.out)); });
  return true;
}

bool Decoder::attend(const DecoderLayer& layer, size_t index, const StepArgs& step) {
  const int64_t heads = shape_.num_heads + 2 * shape_.num_kv_heads;
  const NormArgs norm = entering(layer.before_attention, step, buffers_.x.data());
  multiply(Op::qkv, layer.qkv, buffers_.x.data(), shape_.hidden_size, step.num_tokens, Epilogue::store,
           {buffers_.qkv.data(), heads * shape_.head_dim}, &norm);
  if (shape_.qk_norm != QKNorm::none) timed(Op::norm, [&] { normalize_qk(layer, step.num_tokens); });
  if (!timed(Op::rope, [&] { return rope(layer, index, step); })) return false;
  if (!timed(Op::attention, [&] { return attention(layer, index, step); })) return false;
  leave(Op::out, layer.out, buffers_.attended.data(), shape_.num_heads * shape_.head_dim, layer.after_attention, step);
  return true;
}

void Decoder::feed_forward(const DecoderLayer& layer, const StepArgs& step) {
  const NormArgs norm = entering(layer.before_mlp, step, buffers_.x.data());
  multiply(Op::gate_up, layer.gate_up, buffers_.x.data(), shape_.hidden_size, step.num_tokens, shape_.activation,
           {buffers_.inner.data(), shape_.inner_size}, &norm);
  leave(Op::down, layer.down, buffers_.inner.data(), shape_.inner_size, layer.after_mlp, step);
}

// The residual stream (after adding what waits for it), normed -> `to`.
NormArgs Decoder::entering(const Norm& norm, const StepArgs& step, void* to) {
  const Rows x{std::exchange(pending_, false) ? buffers_.x.data() : nullptr, shape_.hidden_size};
  return {shape_.dtype, norm.weight ? norm.dtype : shape_.dtype, true, {to, shape_.hidden_size}, x,
          {step.residual, shape_.hidden_size}, norm.weight, step.num_tokens, 1, 0, shape_.hidden_size, shape_.norm_eps};
}

// A block's last product, added to the residual stream at once or, where a norm comes first, by the norm that comes next.
void Decoder::leave(Op op, const Weight& weight, const void* from, int64_t width, const Norm& norm, const StepArgs& step) {
  if (!norm.weight) {
    return multiply(op, weight, from, width, step.num_tokens, Epilogue::add, {step.residual, shape_.hidden_size});
  }
  multiply(op, weight, from, width, step.num_tokens, Epilogue::store, {buffers_.q.data(), shape_.hidden_size});
  timed(Op::norm, [&] {
    kernels().rms_norm({shape_.dtype, norm.dtype, false, {buffers_.x.data(), shape_.hidden_size},
                        {buffers_.q.data(), shape_.hidden_size}, {nullptr, 0}, norm.weight, step.num_tokens, 1, 0,
                        shape_.hidden_size, shape_.norm_eps});
  });
  pending_ = true;
}

void Decoder::multiply(Op op, const Weight& weight, const void* x, int64_t width, int64_t rows, Epilogue epilogue, Rows out,
                       const NormArgs* norm) {
  timed(op, [&] {
    kernels().linear({shape_.dtype, epilogue, shape_.residual_scale, out, {const_cast<void*>(x), width}, rows, weight, norm});
  });
}

// Queries and keys, normed where the model does so, lie in buffers of their own; else in the product.
Rows Decoder::queries() const {
  const int64_t heads = shape_.num_heads + 2 * shape_.num_kv_heads;
  if (shape_.qk_norm == QKNorm::none) return {buffers_.qkv.data(), heads * shape_.head_dim};
  return {buffers_.q.data(), shape_.num_heads * shape_.head_dim};
}

Rows Decoder::keys() const {
  const int64_t heads = shape_.num_heads + 2 * shape_.num_kv_heads;
  if (shape_.qk_norm == QKNorm::none) {
    char* product = buffers_.qkv.data();
    return {shifted(product, shape_.num_heads * shape_.head_dim, shape_.dtype), heads * shape_.head_dim};
  }
  return {buffers_.k.data(), shape_.num_kv_heads * shape_.head_dim};
}

void Decoder::normalize_qk(const DecoderLayer& layer, int64_t tokens) {
  const int64_t stride = (shape_.num_heads + 2 * shape_.num_kv_heads) * shape_.head_dim;
  char* product = buffers_.qkv.data();
  const auto normalize = [&](const Norm& norm, void* from, void* to, int64_t heads) {
    const bool by_head = shape_.qk_norm == QKNorm::head;
    kernels().rms_norm({shape_.dtype, norm.dtype, false, {to, shape_.head_dim}, {from, stride}, {nullptr, 0}, norm.weight,
                        tokens, by_head ? heads : 1, shape_.head_dim, by_head ? shape_.head_dim : heads * shape_.head_dim,
                        shape_.norm_eps});
  };
  normalize(layer.q_norm, product, buffers_.q.data(), shape_.num_heads);
  normalize(layer.k_norm, shifted(product, shape_.num_heads * shape_.head_dim, shape_.dtype), buffers_.k.data(),
            shape_.num_kv_heads);
}

bool Decoder::rope(const DecoderLayer& layer, size_t index, const StepArgs& step) {
  const Rows q = queries(), k = keys();
  const int64_t heads = shape_.num_heads + shape_.num_kv_heads, d = shape_.head_dim;
  RopeArgs a{};
  a.dtype = shape_.dtype;
  a.cache_dtype = caches_.dtype;
  a.q = q.data;
  a.k = k.data;
  a.v = shifted(buffers_.qkv.data(), heads * d, shape_.dtype);
  a.q_stride[0] = q.stride;
  a.k_stride[0] = k.stride;
  a.v_stride[0] = (heads + shape_.num_kv_heads) * d;
  a.q_stride[1] = a.k_stride[1] = a.v_stride[1] = d;
  a.positions = step.positions;
  a.cos_sin = layer.cos_sin;
  a.num_positions = layer.num_positions;
  a.rotary_dim = layer.rotary_dim;
  a.slots = step.slots[layer.group];
  a.k_cache = caches_.keys[index];
  a.v_cache = caches_.values[index];
  std::copy_n(caches_.key_stride.data(), 3, a.k_cache_stride);
  std::copy_n(caches_.value_stride.data(), 3, a.v_cache_stride);
  a.num_tokens = step.num_tokens;
  a.num_heads = shape_.num_heads;
  a.num_kv_heads = shape_.num_kv_heads;
  a.head_dim = d;
  a.num_blocks = caches_.num_blocks;
  a.block_size = caches_.block_size;
  return kernels().rope_and_cache(a);
}

bool Decoder::attention(const DecoderLayer& layer, size_t index, const StepArgs& step) {
  const Rows q = queries();
  AttentionArgs a{};
  a.dtype = shape_.dtype;
  a.cache_dtype = caches_.dtype;
  a.out = buffers_.attended.data();
  a.q = q.data;
  a.q_stride[0] = q.stride;
  a.q_stride[1] = shape_.head_dim;
  a.k_cache = caches_.keys[index];
  a.v_cache = caches_.values[index];
  std::copy_n(caches_.key_stride.data(), 3, a.k_cache_stride);
  std::copy_n(caches_.value_stride.data(), 3, a.v_cache_stride);
  a.query_starts = step.query_starts;
  a.seq_lens = step.seq_lens;
  a.block_tables = step.block_tables[layer.group];
  a.block_table_stride = step.block_table_stride;
  a.num_requests = step.num_requests;
  a.num_heads = shape_.num_heads;
  a.num_kv_heads = shape_.num_kv_heads;
  a.head_dim = shape_.head_dim;
  a.num_blocks = caches_.num_blocks;
  a.block_size = caches_.block_size;
  a.max_blocks = step.max_blocks;
  a.scale = layer.scale;
  a.soft_cap = layer.soft_cap;
  a.sliding_window = layer.sliding_window;
  return kernels().paged_attention(a);
}

void Decoder::make_room(int64_t tokens) {
  const auto grow = [&](LargeArray& buffer, int64_t width) {
    buffer.get(static_cast<size_t>(tokens * width * bytes_of(shape_.dtype)));
  };
  const int64_t q = shape_.num_heads * shape_.head_dim, kv = shape_.num_kv_heads * shape_.head_dim;
  grow(buffers_.x, shape_.hidden_size);
  grow(buffers_.qkv, q + 2 * kv);
  grow(buffers_.q, std::max(q, shape_.hidden_size));
  grow(buffers_.k, kv);
  grow(buffers_.attended, q);
  grow(buffers_.inner, shape_.inner_size);
}

}  // namespace octavo
