// The ops of a program: each fills the arguments of one kernel from what is fixed and what the step brings.
#pragma once

#include "program.h"

namespace octavo {

// A norm's weight, or null: rows are only rounded.
struct NormWeight {
  const void* data;
  DType dtype;
  float eps;
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

struct WidenOp : Op {
  Operand x, out;
  DType dtype;
  int64_t size;
  bool run(const Run& run) const override;
};

struct NormOp : Op {
  Operand x, addend, out;
  DType dtype;  // of addend and out
  bool wide;    // x is a float32 residual
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

struct AttendOp : Op {
  Operand q, out;
  DType dtype;
  int64_t num_heads, sliding_window;
  float scale, soft_cap;
  PagedCache cache;
  bool run(const Run& run) const override;
};

}  // namespace octavo
