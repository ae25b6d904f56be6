// The ops of a program: each fills the arguments of one kernel from what is fixed and what the step brings.
#pragma once

#include <vector>

#include "program/program.h"

namespace octavo {

// A norm's weight, or null: rows are only rounded.
struct NormWeight {
  const void* data;
  DType dtype;
  float eps;
  const void* bias;
  bool centred;
};

struct CopyOp : Op {
  Operand x, out;
  int64_t row_bytes;
  int64_t item_bytes;
  bool run(const Run& run) const override;
};

struct EmbedOp : Op {
  Operand ids, out;
  const Weight* packed;  // or null: the rows lie in `table`
  Rows table;
  DType dtype;
  int64_t vocab_size, size;
  float scale;
  bool run(const Run& run) const override;
};

struct ActivateOp : Op {
  Operand x, out;
  DType dtype;
  Activation activation;
  int64_t size;
  bool run(const Run& run) const override;
};

struct AddOp : Op {
  Operand x, y, out;
  DType dtype;
  int64_t size;
  bool run(const Run& run) const override;
};

struct WidenOp : Op {
  Operand x, out;
  DType dtype;
  int64_t size;
  bool run(const Run& run) const override;
};

struct NormOp : Op {
  Operand x, addend, out;
  DType dtype;    // of addend and out
  bool residual;  // x is a residual stream, which the addend is added to
  bool wide;      // which is float32
  NormWeight norm;
  int64_t parts, size;  // of each part
  bool run(const Run& run) const override;
};

// A product, with what writes its rows before they are multiplied where x is normed first.
struct LinearOp : Op {
  Operand x, out;
  DType dtype;
  Weight weight;
  Epilogue epilogue;
  float scale;
  bool normed = false;
  Operand residual, addend;  // x is where normed rows go
  bool wide = true;          // the residual is float32
  NormWeight norm;
  bool run(const Run& run) const override;
};

struct RopeOp : Op {
  Operand q, k, v, positions;
  DType dtype;
  const float* cos_sin;
  int64_t num_positions, rotary_dim, num_heads;
  PagedCache cache;
  bool run(const Run& run) const override;
};

// Keys and values into their cache as they are.
struct CacheWriteOp : Op {
  Operand k, v;
  DType dtype;
  PagedCache cache;
  bool run(const Run& run) const override;
};

// Which keys a query sees: those up to itself, all of its request, or all of what its request's encoder gave.
enum class Mask : int { causal = 0, full = 1, encoder = 2 };

struct AttendOp : Op {
  Operand q, out;
  DType dtype;
  int64_t num_heads, sliding_window;
  float scale, soft_cap;
  Mask mask;
  PagedCache cache;
  bool run(const Run& run) const override;
};

// Attention among the step's own tokens, whose keys and values lie in pages for as long as the op runs.
struct AttendFreshOp : Op {
  Operand q, k, v, out;
  DType dtype;
  int64_t num_heads, num_kv_heads, head_dim, sliding_window;
  float scale, soft_cap;
  Mask mask;
  bool run(const Run& run) const override;

 private:
  PagedCache pages(int64_t num_blocks) const;
};

// A mixture of experts: each row's best ones, weighted.
struct ExpertsOp : Op {
  Operand x, router, out;
  DType dtype, router_dtype;
  Epilogue gate;
  std::vector<Weight> gate_up, down;
  int64_t top_k, size;  // of a row
  bool renormalize;
  bool run(const Run& run) const override;
};

}  // namespace octavo
