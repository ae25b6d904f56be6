// Programs as a Python class. Whoever makes one keeps the tensors alive whose addresses it is given.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bindings.h"
#include "program/ops.h"

namespace nb = nanobind;

namespace octavo {
namespace {

using OperandArg = std::tuple<int64_t, int64_t, int64_t>;   // buffer, offset in bytes, stride; buffer -1: none
using NormArg = std::tuple<Address, int, float, Address, bool>;  // weight or 0, its type, epsilon, bias or 0, mean subtracted
using Strides3 = std::array<int64_t, 3>;
using CacheArg = std::tuple<int, Address, Address, Strides3, Strides3, std::array<int64_t, 4>, int64_t>;
using GroupArg = std::tuple<Address, Address, int64_t, int64_t>;  // slots, block tables, their stride, blocks at most

Operand operand(const OperandArg& a) { return {std::get<0>(a), std::get<1>(a), std::get<2>(a)}; }

NormWeight norm_weight(const NormArg& a) { return {at<void>(std::get<0>(a)), DType(std::get<1>(a)), std::get<2>(a), at<void>(std::get<3>(a)), std::get<4>(a)}; }

// sizes: blocks, KV heads, tokens a block, head size.
PagedCache paged_cache(const CacheArg& a) {
  const auto& [dtype, keys, values, key_stride, value_stride, sizes, group] = a;
  return {DType(dtype), at<void>(keys), at<void>(values), key_stride, value_stride, sizes[0], sizes[2], sizes[1], sizes[3], group};
}

void add_copy(Program& self, const std::string& label, OperandArg x, OperandArg out, int64_t row_bytes, int64_t item_bytes) {
  auto op = std::make_unique<CopyOp>();
  op->x = operand(x);
  op->out = operand(out);
  op->row_bytes = row_bytes;
  op->item_bytes = item_bytes;
  self.add_op(std::move(op), label);
}

void add_embed(Program& self, const std::string& label, OperandArg ids, OperandArg out, int dtype, const Weight* packed,
               Address table, int64_t table_stride, int64_t vocab_size, int64_t size, float scale) {
  auto op = std::make_unique<EmbedOp>();
  op->ids = operand(ids);
  op->out = operand(out);
  op->dtype = DType(dtype);
  op->packed = packed;
  op->table = {at<void>(table), table_stride};
  op->vocab_size = vocab_size;
  op->size = size;
  op->scale = scale;
  self.add_op(std::move(op), label);
}

void add_widen(Program& self, const std::string& label, OperandArg x, OperandArg out, int dtype, int64_t size) {
  auto op = std::make_unique<WidenOp>();
  op->x = operand(x);
  op->out = operand(out);
  op->dtype = DType(dtype);
  op->size = size;
  self.add_op(std::move(op), label);
}

void add_activate(Program& self, const std::string& label, OperandArg x, OperandArg out, int dtype, int activation, int64_t size) {
  auto op = std::make_unique<ActivateOp>();
  op->x = operand(x);
  op->out = operand(out);
  op->dtype = DType(dtype);
  op->activation = Activation(activation);
  op->size = size;
  self.add_op(std::move(op), label);
}

void add_add(Program& self, const std::string& label, OperandArg x, OperandArg y, OperandArg out, int dtype, int64_t size) {
  auto op = std::make_unique<AddOp>();
  op->x = operand(x);
  op->y = operand(y);
  op->out = operand(out);
  op->dtype = DType(dtype);
  op->size = size;
  self.add_op(std::move(op), label);
}

void add_norm(Program& self, const std::string& label, OperandArg x, OperandArg addend, OperandArg out, int dtype, bool residual,
              bool wide, NormArg norm, int64_t parts, int64_t size) {
  auto op = std::make_unique<NormOp>();
  op->x = operand(x);
  op->addend = operand(addend);
  op->out = operand(out);
  op->dtype = DType(dtype);
  op->residual = residual;
  op->wide = wide;
  op->norm = norm_weight(norm);
  op->parts = parts;
  op->size = size;
  self.add_op(std::move(op), label);
}

std::unique_ptr<LinearOp> linear_op(OperandArg x, OperandArg out, int dtype, const Weight& weight, int epilogue, float scale) {
  auto op = std::make_unique<LinearOp>();
  op->x = operand(x);
  op->out = operand(out);
  op->dtype = DType(dtype);
  op->weight = weight;
  op->epilogue = Epilogue(epilogue);
  op->scale = scale;
  return op;
}

void add_linear(Program& self, const std::string& label, OperandArg x, OperandArg out, int dtype, const Weight& weight,
                int epilogue, float scale) {
  self.add_op(linear_op(x, out, dtype, weight, epilogue, scale), label);
}

// x: where the normed rows of the residual go, which are multiplied.
void add_norm_linear(Program& self, const std::string& label, OperandArg residual, OperandArg addend, NormArg norm, OperandArg x,
                     OperandArg out, int dtype, const Weight& weight, int epilogue) {
  auto op = linear_op(x, out, dtype, weight, epilogue, 1.0f);
  op->normed = true;
  op->residual = operand(residual);
  op->addend = operand(addend);
  op->norm = norm_weight(norm);
  self.add_op(std::move(op), label);
}

void add_rope(Program& self, const std::string& label, OperandArg q, OperandArg k, OperandArg v, OperandArg positions, int dtype,
              Address cos_sin, int64_t num_positions, int64_t rotary_dim, int64_t num_heads, const CacheArg& cache) {
  auto op = std::make_unique<RopeOp>();
  op->q = operand(q);
  op->k = operand(k);
  op->v = operand(v);
  op->positions = operand(positions);
  op->dtype = DType(dtype);
  op->cos_sin = at<float>(cos_sin);
  op->num_positions = num_positions;
  op->rotary_dim = rotary_dim;
  op->num_heads = num_heads;
  op->cache = paged_cache(cache);
  self.add_op(std::move(op), label);
}

void add_cache_write(Program& self, const std::string& label, OperandArg k, OperandArg v, int dtype, const CacheArg& cache) {
  auto op = std::make_unique<CacheWriteOp>();
  op->k = operand(k);
  op->v = operand(v);
  op->dtype = DType(dtype);
  op->cache = paged_cache(cache);
  self.add_op(std::move(op), label);
}

void add_attend_fresh(Program& self, const std::string& label, OperandArg q, OperandArg k, OperandArg v, OperandArg out, int dtype,
                      std::array<int64_t, 3> heads, float scale, float soft_cap, int64_t sliding_window, int mask) {
  auto op = std::make_unique<AttendFreshOp>();
  op->q = operand(q);
  op->k = operand(k);
  op->v = operand(v);
  op->out = operand(out);
  op->dtype = DType(dtype);
  op->num_heads = heads[0];
  op->num_kv_heads = heads[1];
  op->head_dim = heads[2];
  op->scale = scale;
  op->soft_cap = soft_cap;
  op->sliding_window = sliding_window;
  op->mask = Mask(mask);
  self.add_op(std::move(op), label);
}

void add_experts(Program& self, const std::string& label, OperandArg x, OperandArg router, OperandArg out, int dtype, int router_dtype, int gate,
                 const std::vector<const Weight*>& gate_up, const std::vector<const Weight*>& down, int64_t top_k, bool renormalize) {
  auto op = std::make_unique<ExpertsOp>();
  op->x = operand(x);
  op->router = operand(router);
  op->out = operand(out);
  op->dtype = DType(dtype);
  op->router_dtype = DType(router_dtype);
  op->gate = Epilogue(gate);
  for (const Weight* weight : gate_up) op->gate_up.push_back(*weight);
  for (const Weight* weight : down) op->down.push_back(*weight);
  op->top_k = top_k;
  op->size = gate_up.at(0)->k;
  op->renormalize = renormalize;
  self.add_op(std::move(op), label);
}

void add_attend(Program& self, const std::string& label, OperandArg q, OperandArg out, int dtype, int64_t num_heads, float scale,
                float soft_cap, int64_t sliding_window, int mask, const CacheArg& cache) {
  auto op = std::make_unique<AttendOp>();
  op->q = operand(q);
  op->out = operand(out);
  op->dtype = DType(dtype);
  op->num_heads = num_heads;
  op->scale = scale;
  op->soft_cap = soft_cap;
  op->sliding_window = sliding_window;
  op->mask = Mask(mask);
  op->cache = paged_cache(cache);
  self.add_op(std::move(op), label);
}

int64_t run(Program& self, int64_t rows, const std::vector<Address>& outside, int64_t num_requests, Address query_starts,
            Address seq_lens, Address encoder_lens, const std::vector<GroupArg>& groups) {
  std::vector<void*> addresses;
  addresses.reserve(outside.size());
  for (Address address : outside) addresses.push_back(at<void>(address));
  Step step{num_requests, at<int32_t>(query_starts), at<int32_t>(seq_lens), at<int32_t>(encoder_lens), {}};
  step.groups.reserve(groups.size());
  for (const auto& [slots, tables, stride, blocks] : groups) {
    step.groups.push_back({at<int64_t>(slots), at<int32_t>(tables), stride, blocks});
  }
  return self.run(rows, addresses, step);
}

}  // namespace

void bind_program(nb::module_& m) {
  nb::class_<Program>(m, "Program")
      .def(nb::init<>())
      .def("add_buffer", &Program::add_buffer)
      .def("add_outside_buffer", &Program::add_outside_buffer)
      .def("add_copy", &add_copy)
      .def("add_embed", &add_embed, nb::arg("label"), nb::arg("ids"), nb::arg("out"), nb::arg("dtype"), nb::arg("packed").none(),
           nb::arg("table"), nb::arg("table_stride"), nb::arg("vocab_size"), nb::arg("size"), nb::arg("scale"))
      .def("add_widen", &add_widen)
      .def("add_activate", &add_activate)
      .def("add_add", &add_add)
      .def("add_norm", &add_norm)
      .def("add_linear", &add_linear)
      .def("add_norm_linear", &add_norm_linear)
      .def("add_rope", &add_rope)
      .def("add_cache_write", &add_cache_write)
      .def("add_attend", &add_attend)
      .def("add_attend_fresh", &add_attend_fresh)
      .def("add_experts", &add_experts)
      .def("run", &run, nb::call_guard<nb::gil_scoped_release>())
      .def("profile", &Program::profile)
      .def("take_timings", &Program::take_timings);
}

}  // namespace octavo
