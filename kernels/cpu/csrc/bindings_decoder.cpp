// The decoder as a Python class. Whoever makes it keeps the tensors alive whose addresses it is given.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "decoder.h"

namespace nb = nanobind;

namespace octavo {
namespace {

using NormArg = std::pair<Address, int>;  // address of the weight, 0 for none, and its type
using Strides3 = std::array<int64_t, 3>;

Norm norm_of(const NormArg& norm) { return {at<void>(norm.first), DType(norm.second)}; }

void make_decoder(Decoder* self, int dtype, int64_t hidden_size, int64_t num_heads, int64_t num_kv_heads, int64_t head_dim,
                  int64_t inner_size, int activation, int qk_norm, float norm_eps, float residual_scale,
                  const NormArg& final_norm) {
  new (self) Decoder({DType(dtype), hidden_size, num_heads, num_kv_heads, head_dim, inner_size, Epilogue(activation),
                      QKNorm(qk_norm), norm_eps, residual_scale},
                     norm_of(final_norm));
}

// norms: before and after attention, before and after the MLP, of queries, of keys.
void add_layer(Decoder& self, const std::array<const Weight*, 4>& weights, const std::array<NormArg, 6>& norms,
               Address cos_sin, int64_t num_positions, int64_t rotary_dim, float scale, float soft_cap,
               int64_t sliding_window, size_t group) {
  self.add_layer({*weights[0], *weights[1], *weights[2], *weights[3], norm_of(norms[0]), norm_of(norms[1]),
                  norm_of(norms[2]), norm_of(norms[3]), norm_of(norms[4]), norm_of(norms[5]), at<float>(cos_sin),
                  num_positions, rotary_dim, scale, soft_cap, sliding_window, group});
}

void set_caches(Decoder& self, int dtype, const std::vector<Address>& keys, const std::vector<Address>& values,
                Strides3 key_stride, Strides3 value_stride, int64_t num_blocks, int64_t block_size) {
  PagedCaches caches{DType(dtype), {}, {}, key_stride, value_stride, num_blocks, block_size};
  for (Address key : keys) caches.keys.push_back(at<void>(key));
  for (Address value : values) caches.values.push_back(at<void>(value));
  self.set_caches(std::move(caches));
}

bool forward(Decoder& self, int64_t num_tokens, int64_t num_requests, Address residual, Address out, Address positions,
             Address query_starts, Address seq_lens, const std::vector<Address>& slots,
             const std::vector<Address>& block_tables, int64_t block_table_stride, int64_t max_blocks) {
  StepArgs step{num_tokens, num_requests, at<float>(residual), at<void>(out), at<int64_t>(positions),
                at<int32_t>(query_starts), at<int32_t>(seq_lens), {}, {}, block_table_stride, max_blocks};
  for (Address group : slots) step.slots.push_back(at<int64_t>(group));
  for (Address group : block_tables) step.block_tables.push_back(at<int32_t>(group));
  return self.forward(step);
}

std::vector<std::pair<std::string, double>> take_timings(Decoder& self) {
  static const char* const kNames[] = {"norm", "qkv", "rope", "attention", "out", "gate_up", "down"};
  const auto seconds = self.take_timings();
  std::vector<std::pair<std::string, double>> named;
  for (size_t i = 0; i < seconds.size(); ++i) named.emplace_back(kNames[i], seconds[i]);
  return named;
}

}  // namespace

void bind_decoder(nb::module_& m) {
  nb::class_<Decoder>(m, "Decoder")
      .def("__init__", &make_decoder)
      .def("add_layer", &add_layer)
      .def("set_caches", &set_caches)
      .def("forward", &forward, nb::call_guard<nb::gil_scoped_release>())
      .def("profile", &Decoder::profile)
      .def("take_timings", &take_timings);
}

}  // namespace octavo
