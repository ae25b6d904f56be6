// All layers of a decoder as one call, so that a step leaves the interpreter once.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels.h"
#include "large_array.h"

namespace octavo {

struct Norm {
  const void* weight = nullptr;  // null: there is none
  DType dtype = DType::f32;
};

enum class QKNorm : int { none = 0, head = 1, all = 2 };  // of each head, or of all heads as one vector

struct DecoderShape {
  DType dtype;
  int64_t hidden_size, num_heads, num_kv_heads, head_dim, inner_size;
  Epilogue activation;
  QKNorm qk_norm;
  float norm_eps, residual_scale;
};

struct DecoderLayer {
  Weight qkv, out, gate_up, down;
  // Norms of what goes into a block; with an `after` norm also of what comes out, before it is added to the residual.
  Norm before_attention, after_attention, before_mlp, after_mlp, q_norm, k_norm;
  const float* cos_sin;
  int64_t num_positions, rotary_dim;
  float scale, soft_cap;
  int64_t sliding_window;
  size_t group;  // of the cache: whose slots and block tables count
};

// Pages of all layers; strides count elements: block, head, token.
struct PagedCaches {
  DType dtype;
  std::vector<void*> keys, values;
  std::array<int64_t, 3> key_stride, value_stride;
  int64_t num_blocks, block_size;
};

// See AttentionMetadata of the executor.
struct StepArgs {
  int64_t num_tokens, num_requests;
  float* residual;  // [T, H], the embeddings; used up
  void* out;        // [T, H], final norm applied
  const int64_t* positions;
  const int32_t *query_starts, *seq_lens;
  std::vector<const int64_t*> slots;         // of each cache group
  std::vector<const int32_t*> block_tables;  // of each cache group
  int64_t block_table_stride, max_blocks;
};

enum class Op : int { norm, qkv, rope, attention, out, gate_up, down, count };

class Decoder {
 public:
  explicit Decoder(const DecoderShape& shape, Norm final_norm) : shape_(shape), final_norm_(final_norm) {}

  void add_layer(const DecoderLayer& layer) { layers_.push_back(layer); }
  void set_caches(PagedCaches caches) { caches_ = std::move(caches); }

  // False if a position, slot or block lies outside its table.
  bool forward(const StepArgs& step);

  void profile(bool enable) { profiling_ = enable; }
  // Seconds in each op since the last call.
  std::array<double, static_cast<size_t>(Op::count)> take_timings();

 private:
  // Activations of a step; they grow to the largest one.
  struct Buffers {
    LargeArray x, qkv, q, k, attended, inner;
  };

  bool attend(const DecoderLayer& layer, size_t index, const StepArgs& step);
  void normalize_qk(const DecoderLayer& layer, int64_t tokens);
  bool rope(const DecoderLayer& layer, size_t index, const StepArgs& step);
  bool attention(const DecoderLayer& layer, size_t index, const StepArgs& step);
  void feed_forward(const DecoderLayer& layer, const StepArgs& step);
  NormArgs entering(const Norm& norm, const StepArgs& step, void* to);
  void leave(Op op, const Weight& weight, const void* from, int64_t width, const Norm& norm, const StepArgs& step);
  void multiply(Op op, const Weight& weight, const void* x, int64_t width, int64_t rows, Epilogue epilogue, Rows out,
                const NormArgs* norm = nullptr);
  void make_room(int64_t tokens);
  Rows queries() const;
  Rows keys() const;

  template <typename Body>
  auto timed(Op op, const Body& body);

  const DecoderShape shape_;
  const Norm final_norm_;
  std::vector<DecoderLayer> layers_;
  PagedCaches caches_{};
  Buffers buffers_;
  bool pending_ = false;  // a block's normed output, in buffers_.x, waits to be added to the residual
  bool profiling_ = false;
  std::array<double, static_cast<size_t>(Op::count)> seconds_{};
};

}  // namespace octavo
