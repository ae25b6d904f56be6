// Gated activations.
#include "rows/activation.h"
#include "base/table.h"

namespace octavo::OCTAVO_ISA {
namespace {

template <typename T, typename Activation>
void gate_row(T* out, const T* x, int64_t size, const Activation& activation) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(out + i, activation(load(x + i)) * load(x + size + i));
  if (i < size) {
    store_some(out + i, activation(load_some(x + i, size - i)) * load_some(x + size + i, size - i), size - i);
  }
}

template <typename T, typename Activation>
void gate_rows(const GateArgs& a, const Activation& activation) {
  parallel_rows(a.rows, a.size, [&](int64_t row) {
    gate_row(static_cast<T*>(a.out.data) + row * a.out.stride, static_cast<const T*>(a.x.data) + row * a.x.stride, a.size,
             activation);
  });
}

}  // namespace

void silu_and_mul(const GateArgs& args) {
  OCTAVO_DISPATCH(args.dtype, T, gate_rows<T>(args, [](Vec x) { return silu<T>(x); }));
}

void gelu_and_mul(const GateArgs& args) {
  OCTAVO_DISPATCH(args.dtype, T, gate_rows<T>(args, [](Vec x) { return gelu<T>(x); }));
}

}  // namespace octavo::OCTAVO_ISA
