// What is made of each number by itself, and sums of rows.
#include "rows/activation.h"
#include "base/table.h"

namespace octavo::OCTAVO_ISA {
namespace {

// body(a vector of x) -> out, row by row.
template <typename T, typename Body>
void map_rows(const ActivateArgs& a, const Body& body) {
  parallel_rows(a.rows, a.size, [&](int64_t row) {
    T* out = static_cast<T*>(a.out.data) + row * a.out.stride;
    const T* x = static_cast<const T*>(a.x.data) + row * a.x.stride;
    int64_t i = 0;
    for (; i + kLanes <= a.size; i += kLanes) store(out + i, body(load(x + i)));
    if (i < a.size) store_some(out + i, body(load_some(x + i, a.size - i)), a.size - i);
  });
}

template <typename T>
void activate_rows(const ActivateArgs& a) {
  switch (a.activation) {
    case Activation::gelu: return map_rows<T>(a, [](Vec x) { return gelu_erf(x); });
    case Activation::gelu_tanh: return map_rows<T>(a, [](Vec x) { return gelu<float>(x); });
    case Activation::relu: return map_rows<T>(a, [](Vec x) { return max(Vec{}, x); });
    case Activation::silu: return map_rows<T>(a, [](Vec x) { return silu<float>(x); });
    case Activation::tanh: return map_rows<T>(a, [](Vec x) { return precise_tanh(x); });
  }
}

template <typename T>
void add_row(const AddArgs& a, int64_t row) {
  T* out = static_cast<T*>(a.out.data) + row * a.out.stride;
  const T* x = static_cast<const T*>(a.x.data) + row * a.x.stride;
  const T* y = static_cast<const T*>(a.y.data) + row * a.y.stride;
  int64_t i = 0;
  for (; i + kLanes <= a.size; i += kLanes) store(out + i, load(x + i) + load(y + i));
  if (i < a.size) store_some(out + i, load_some(x + i, a.size - i) + load_some(y + i, a.size - i), a.size - i);
}

// Summands in order, each multiplied and added.
template <typename T>
void combine_row(const CombineArgs& a, int64_t row) {
  T* out = static_cast<T*>(a.out.data) + row * a.out.stride;
  const float* share = a.shares + row * a.count;
  const int64_t* place = a.places + row * a.count;
  for (int64_t i = 0; i < a.size; i += kLanes) {
    const int64_t some = a.size - i < kLanes ? a.size - i : kLanes;
    Vec total{};
    for (int64_t j = 0; j < a.count; ++j) {
      const float* summand = a.summands + place[j] * a.size + i;
      total = fmadd(splat(share[j]), some == kLanes ? load(summand) : load_some(summand, some), total);
    }
    if (some == kLanes) {
      store(out + i, total);
    } else {
      store_some(out + i, total, some);
    }
  }
}

}  // namespace

void activate(const ActivateArgs& args) { OCTAVO_DISPATCH(args.dtype, T, activate_rows<T>(args)); }

void combine(const CombineArgs& args) {
  OCTAVO_DISPATCH(args.dtype, T,
                  parallel_rows(args.rows, args.count * args.size, [&](int64_t row) { combine_row<T>(args, row); }));
}

void add(const AddArgs& args) {
  OCTAVO_DISPATCH(args.dtype, T, parallel_rows(args.rows, args.size, [&](int64_t row) { add_row<T>(args, row); }));
}

}  // namespace octavo::OCTAVO_ISA
