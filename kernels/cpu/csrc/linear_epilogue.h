// What becomes of a panel's sums: bias, type, residual, gate.
#pragma once

#include "activation.h"
#include "kernels.h"
#include "linear_layout.h"

namespace octavo::OCTAVO_ISA {

// Sums [rows, 32] of packed columns from `column` on, for rows of the output from `first` on.
struct Sums {
  const float* data;
  int64_t first, rows, column;
};

// T is x's and the bias's type.
template <typename T>
class PanelWriter {
 public:
  explicit PanelWriter(const LinearArgs& args) : a_(args) {}

  void operator()(const Sums& sums) const {
    switch (a_.epilogue) {
      case Epilogue::store: return write<T>(sums, [](Vec x, const T*) { return x; });
      case Epilogue::wide: return write<float>(sums, [](Vec x, const float*) { return x; });
      case Epilogue::add: return add(sums);
      case Epilogue::silu_gate: return gate(sums, [](Vec x) { return silu<T>(x); });
      case Epilogue::gelu_gate: return gate(sums, [](Vec x) { return gelu<T>(x); });
    }
  }

  // Asks for the memory that these sums will be added to. What is only written is better left alone.
  void expect(const Sums& sums) const {
    if (a_.epilogue != Epilogue::add) return;
    const float* out = static_cast<const float*>(a_.out.data) + sums.first * a_.out.stride + sums.column;
    for (int64_t row = 0; row < sums.rows; ++row, out += a_.out.stride) {
      prefetch_to_write(out);
      prefetch_to_write(out + kHalf);
    }
  }

 private:
  void add(const Sums& sums) const {
    write<float>(sums, [scale = splat(a_.scale)](Vec x, const float* old) { return fmadd(x, scale, load(old)); });
  }

  // out = combine(sum + bias, where out lies)
  template <typename Out, typename Combine>
  void write(const Sums& sums, const Combine& combine) const {
    const int64_t left = a_.weight.n - sums.column, columns = left < kPanel ? left : kPanel;
    for (int64_t row = 0; row < sums.rows; ++row) {
      Out* out = static_cast<Out*>(a_.out.data) + (sums.first + row) * a_.out.stride + sums.column;
      int64_t c = 0;
      for (; c + kLanes <= columns; c += kLanes) store(out + c, combine(biased(sums, row, c), out + c));
      if (c < columns) {
        Out whole[kLanes] = {};
        std::memcpy(whole, out + c, (columns - c) * sizeof(Out));
        store_some(out + c, combine(biased(sums, row, c), whole), columns - c);
      }
    }
  }

  // Gates in the first half of the panel, ups in the second -> half as many columns.
  template <typename Activation>
  void gate(const Sums& sums, const Activation& activation) const {
    const int64_t column = sums.column / 2, left = a_.weight.n / 2 - column, columns = left < kHalf ? left : kHalf;
    for (int64_t row = 0; row < sums.rows; ++row) {
      T* out = static_cast<T*>(a_.out.data) + (sums.first + row) * a_.out.stride + column;
      for (int64_t c = 0; c < columns; c += kLanes) {
        const Vec gated = activation(biased(sums, row, c)) * biased(sums, row, kHalf + c);
        if (columns - c < kLanes) {
          store_some(out + c, gated, columns - c);
        } else {
          store(out + c, gated);
        }
      }
    }
  }

  // The bias is padded to whole panels, as the weight is.
  Vec biased(const Sums& sums, int64_t row, int64_t c) const {
    const Vec sum = load(sums.data + row * kPanel + c);
    return a_.weight.bias ? sum + load(static_cast<const T*>(a_.weight.bias) + sums.column + c) : sum;
  }

  const LinearArgs& a_;
};

}  // namespace octavo::OCTAVO_ISA
