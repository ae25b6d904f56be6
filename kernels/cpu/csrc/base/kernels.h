// What the library offers to Python: one table of functions per instruction set.
//
// Pointers are to tensors' first elements; strides count elements; the last dimension is contiguous everywhere.
#pragma once

#include <cstdint>

#include "base/dtypes.h"

namespace octavo {

// A matrix of rows.
struct Rows {
  void* data;
  int64_t stride;
};

struct NormArgs {
  DType dtype, weight_dtype;
  bool wide;              // the residual is float32, whatever dtype is
  Rows out, x, residual;  // residual.data is null for a plain norm, x.data where nothing is to be added to the residual
  const void* weight;     // null: nothing is normed, the residual is only rounded to dtype
  const void* bias;       // of the weight's type, or null
  bool centred;           // layer norm: the mean is subtracted first
  int64_t outer, inner;  // rows = outer * inner: x is [outer, inner, size], rows of one outer index follow each other
  int64_t x_inner_stride;
  int64_t size;
  float eps;
};

struct GateArgs {
  DType dtype;
  Rows out, x;
  int64_t rows, size;  // x rows hold 2 * size
};

// What is made of each number by itself.
enum class Activation : int { gelu = 0, gelu_tanh = 1, relu = 2, silu = 3, tanh = 4 };

struct ActivateArgs {
  DType dtype;
  Activation activation;
  Rows out, x;
  int64_t rows, size;
};

struct AddArgs {
  DType dtype;
  Rows out, x, y;
  int64_t rows, size;
};

// Weighted sums of float32 rows: out[i] is the sum over j < count of shares[i * count + j] * summands[places[i * count + j]].
struct CombineArgs {
  DType dtype;  // of out
  Rows out;
  const float *summands, *shares;
  const int64_t* places;
  int64_t rows, count, size;
};

struct RopeArgs {
  DType dtype, cache_dtype;
  void *q, *k;
  const void* v;
  int64_t q_stride[2], k_stride[2], v_stride[2];  // token, head
  const int64_t* positions;
  const float* cos_sin;
  int64_t num_positions, rotary_dim;
  const int64_t* slots;
  void *k_cache, *v_cache;
  int64_t k_cache_stride[3], v_cache_stride[3];  // block, head, token
  int64_t num_tokens, num_heads, num_kv_heads, head_dim, num_blocks, block_size;
};

struct AttentionArgs {
  DType dtype, cache_dtype;
  void* out;  // contiguous [T, Hq, D]
  const void* q;
  int64_t q_stride[2];  // token, head
  const void *k_cache, *v_cache;
  int64_t k_cache_stride[3], v_cache_stride[3];  // block, head, token
  const int32_t *query_starts, *seq_lens, *block_tables;
  int64_t block_table_stride;
  int64_t num_requests, num_heads, num_kv_heads, head_dim, num_blocks, block_size, max_blocks;
  float scale, soft_cap;
  int64_t sliding_window;
  bool full;  // a query sees all keys, with a window those nearer than it on both sides; else none behind itself
};

// How a weight lies in memory; each form's layout is described where it is packed.
enum class Format : int {
  dense = 0,  // linear/layout.h
  int8 = 1,   // linear/int8_layout.h
  // Blocks of GGUF files under their names there, linear/blocks_layout.h
  q8_0 = 2,
  q4_0 = 3,
  q4_1 = 4,
  q5_0 = 5,
  q5_1 = 6,
  q4_k = 7,
  q5_k = 8,
  q6_k = 9,
  compact = 10,  // linear/compact.h
};

// A packed weight [n, k] and its bias [n], or null. Of a gated weight n counts gates and ups, which lie side by side.
struct Weight {
  Format format;
  DType dtype;   // of x and the bias
  DType stored;  // of a dense weight's values: dtype, or 16 bits that are multiplied with x in float32
  bool integer;  // x is rounded to 8 bits and multiplied with a weight's integers; else blocks become values of dtype
  const void* data;
  const void* bias;
  int64_t n, k;
};

struct EmbeddingArgs {
  DType dtype;
  const Weight* packed;  // or null: the rows lie in `table`
  Rows table;
  void* out;      // contiguous
  const void* ids;
  bool wide_ids;  // int64, else int32
  int64_t num_ids, vocab_size, size;
  float scale = 1.0f;  // of the rows, which are rounded after it
};

struct WidenArgs {
  DType dtype;  // of x; out is float32
  Rows out, x;
  int64_t rows, size;
};

// What becomes of a product.
enum class Epilogue : int {
  store = 0,      // out, in x's type
  wide = 1,       // out, float32
  add = 2,        // out, float32, += scale * product: the residual stream
  silu_gate = 3,  // out [rows, n / 2], in x's type: silu(gate) * up, of a gated weight
  gelu_gate = 4,
  runs = 5,  // out [rows, 2, n / 32], float32: what linear/runs.h says of the product
};

struct LinearArgs {
  DType dtype;  // of x
  Epilogue epilogue;
  float scale;
  Rows out, x;
  int64_t rows;
  Weight weight;
  const NormArgs* norm;  // what writes x, row by row, before it is multiplied; or null: x lies there already
  // A part of the weight: panels (linear/layout.h), and how many of them; -1: all that follow. out holds theirs alone.
  int64_t first_panel = 0, num_panels = -1;
  const float* sharpness = nullptr;  // [rows], for runs (linear/runs.h); null: without masses
};

struct PackArgs {
  DType dtype;
  bool gated;  // the weight's upper half are gates, its lower half ups
  void* packed;
  Rows weight;
  int64_t n, k;
};

struct CompactArgs {
  void* compact;      // room for the panels and `capacity` exceptions
  const void* dense;  // bf16, what pack_linear wrote
  int64_t n, k, capacity;
};

// How a row's token is drawn: what `ops.sample` says of its `draws`.
struct Draw {
  double temperature, top_k, top_p, min_p, uniform;
};

struct SampleArgs {
  const float* logits;
  int64_t stride, rows, vocab_size;
  const Draw* draws;  // null: no row is drawn
  int64_t* tokens;
  float* peaks;  // the largest logits
};

// Sampling of logits that are the product of x and a weight.
struct SampleLinearArgs {
  DType dtype;  // of x
  Rows x;
  int64_t rows;
  Weight weight;
  const Draw* draws;
  int64_t* tokens;
  float* peaks;
  float* runs;  // room for 2 numbers a row and panel
};

struct LogprobArgs {
  const float* logits;
  int64_t stride, rows, vocab_size;
  const int64_t* chosen;
  int64_t k;
  int32_t* ids;     // [rows, 1 + k]
  float* logprobs;  // [rows, 1 + k]
  int32_t* ranks;
};

struct Kernels {
  const char* name;
  void (*rms_norm)(const NormArgs&);
  void (*widen)(const WidenArgs&);
  void (*activate)(const ActivateArgs&);
  void (*add)(const AddArgs&);
  void (*combine)(const CombineArgs&);
  void (*silu_and_mul)(const GateArgs&);
  void (*gelu_and_mul)(const GateArgs&);
  // These three return false, having left out the entry at fault, if an index lies outside its table.
  bool (*rope_and_cache)(const RopeArgs&);
  bool (*paged_attention)(const AttentionArgs&);
  bool (*embedding)(const EmbeddingArgs&);
  void (*linear)(const LinearArgs&);
  void (*pack_linear)(const PackArgs&);
  int64_t (*compact_linear)(const CompactArgs&);  // bytes used; -1: there are too many exceptions
  void (*pack_int8)(const PackArgs&);
  void (*pack_blocks)(Format, const PackArgs&);  // weight.data: the file's rows of blocks, one after the other
  int64_t (*blocks_bytes)(Format, int64_t n, int64_t k);  // of what pack_blocks writes
  void (*sample)(const SampleArgs&);
  bool (*sample_linear)(const SampleLinearArgs&);  // false: a row is to be drawn from less than all tokens
  bool (*top_logprobs)(const LogprobArgs&);  // false: a chosen id lies outside the vocabulary
  // Of the machine, not of a model: all threads read memory, whole megabytes of it; or multiply what lies in registers and tell
  // how many operations that were.
  int64_t (*read_memory)(const void* data, int64_t bytes);
  int64_t (*multiply)(DType, int64_t rounds);
};

}  // namespace octavo
