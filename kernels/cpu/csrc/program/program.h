// A program as one call, so that a step leaves the interpreter once: ops over buffers, in the order in which they run.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/kernels.h"
#include "base/large_array.h"
#include "program/fresh_pages.h"

namespace octavo {

// Where a value lies: a buffer (-1: there is none), bytes from the start of its first row, elements from row to row.
struct Operand {
  int64_t buffer = -1, offset = 0, stride = 0;
};

// What a step's requests see of one cache group. See AttentionMetadata of the executor.
struct CacheGroup {
  const int64_t* slots;
  const int32_t* block_tables;
  int64_t block_table_stride, max_blocks;
};

struct Step {
  int64_t num_requests;
  const int32_t *query_starts, *seq_lens, *encoder_lens;
  std::vector<CacheGroup> groups;
};

// One layer's pages; strides count elements: block, head, token.
struct PagedCache {
  DType dtype;
  void *keys, *values;
  std::array<int64_t, 3> key_stride, value_stride;
  int64_t num_blocks, block_size, num_kv_heads, head_dim;
  int64_t group;
};

// What the ops of a run share.
struct Run {
  const Step& step;
  int64_t rows;
  const std::vector<char*>& buffers;
  FreshLayout& fresh;

  char* at(const Operand& operand) const {
    return operand.buffer < 0 ? nullptr : buffers[static_cast<size_t>(operand.buffer)] + operand.offset;
  }
  Rows operator()(const Operand& operand) const { return {at(operand), operand.stride}; }
};

class Op {
 public:
  virtual ~Op() = default;
  // False if an id, position, slot or block lies outside its table.
  virtual bool run(const Run& run) const = 0;

  size_t label = 0;
};

class Program {
 public:
  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Memory of so many bytes a row; returns its number. That of a value which comes or goes with each run is the caller's.
  int64_t add_buffer(int64_t row_bytes);
  int64_t add_outside_buffer();
  void add_op(std::unique_ptr<Op> op, const std::string& label);

  // Run all ops over so many rows. `outside`: addresses of the outside buffers, in the order in which they were added.
  // Returns -1, or the number of the op that met what lies outside its table.
  int64_t run(int64_t rows, const std::vector<void*>& outside, const Step& step);

  void profile(bool enable) { profiling_ = enable; }
  // Seconds under each label since the last call.
  std::vector<std::pair<std::string, double>> take_timings();

 private:
  struct Buffer {
    int64_t row_bytes;  // -1: outside
    std::unique_ptr<LargeArray> memory;
  };

  void find_memory(int64_t rows, const std::vector<void*>& outside);
  bool timed(const Op& op, const Run& run);

  std::vector<Buffer> buffers_;
  std::vector<char*> addresses_;
  FreshLayout fresh_;
  std::vector<std::unique_ptr<Op>> ops_;
  std::vector<std::string> labels_;
  std::vector<double> seconds_;
  bool profiling_ = false;
};

}  // namespace octavo
