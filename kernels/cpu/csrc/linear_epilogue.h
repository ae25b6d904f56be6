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
    for (int64_t row = 0; row < sums.rows; ++row) write(sums, row);
  }

  OCTAVO_INLINE void write(const Sums& sums, int64_t row) const {
    const float* from = sums.data + row * kPanel;
    const int64_t to = sums.first + row;
    switch (a_.epilogue) {
      case Epilogue::store: return combine<T>(from, to, sums.column, [](Vec x, const T*) { return x; });
      case Epilogue::wide: return combine<float>(from, to, sums.column, [](Vec x, const float*) { return x; });
      case Epilogue::add:
        return combine<float>(from, to, sums.column, [scale = splat(a_.scale)](Vec x, const float* old) {
          return fmadd(x, scale, load(old));
        });
      case Epilogue::silu_gate: return gate(from, to, sums.column, [](Vec x) { return silu<T>(x); });
      case Epilogue::gelu_gate: return gate(from, to, sums.column, [](Vec x) { return gelu<T>(x); });
    }
  }

  // Asks for the memory that a row will be written to.
  OCTAVO_INLINE void expect(const Sums& sums, int64_t row) const {
    const bool gated = a_.epilogue == Epilogue::silu_gate || a_.epilogue == Epilogue::gelu_gate;
    const int64_t size = a_.epilogue == Epilogue::wide || a_.epilogue == Epilogue::add ? sizeof(float) : sizeof(T);
    const char* out = static_cast<const char*>(a_.out.data) + ((sums.first + row) * a_.out.stride + sums.column / (gated ? 2 : 1)) * size;
    prefetch_to_write(out);
    if (size == sizeof(float)) prefetch_to_write(out + 64);
  }

 private:
  // out = combine(sum + bias, where out lies)
  template <typename Out, typename Combine>
  OCTAVO_INLINE void combine(const float* sums, int64_t row, int64_t column, const Combine& with) const {
    const int64_t left = a_.weight.n - column, columns = left < kPanel ? left : kPanel;
    Out* out = static_cast<Out*>(a_.out.data) + row * a_.out.stride + column;
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) store(out + c, with(biased(sums, column, c), out + c));
    if (c < columns) {
      Out whole[kLanes] = {};
      std::memcpy(whole, out + c, (columns - c) * sizeof(Out));
      store_some(out + c, with(biased(sums, column, c), whole), columns - c);
    }
  }

  // Gates in the first half of the panel, ups in the second -> half as many columns.
  template <typename Activation>
  OCTAVO_INLINE void gate(const float* sums, int64_t row, int64_t packed, const Activation& activation) const {
    const int64_t column = packed / 2, left = a_.weight.n / 2 - column, columns = left < kHalf ? left : kHalf;
    T* out = static_cast<T*>(a_.out.data) + row * a_.out.stride + column;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const Vec gated = activation(biased(sums, packed, c)) * biased(sums, packed, kHalf + c);
      if (columns - c < kLanes) {
        store_some(out + c, gated, columns - c);
      } else {
        store(out + c, gated);
      }
    }
  }

  // The bias is padded to whole panels, as the weight is.
  OCTAVO_INLINE Vec biased(const float* sums, int64_t column, int64_t c) const {
    const Vec sum = load(sums + c);
    return a_.weight.bias ? sum + load(static_cast<const T*>(a_.weight.bias) + column + c) : sum;
  }

  const LinearArgs& a_;
};

// Sums that are written little by little, while others are computed.
template <typename T>
class PendingRows {
 public:
  explicit PendingRows(const PanelWriter<T>& writer) : writer_(writer) {}
  ~PendingRows() { finish(); }

  // Writes what is left of the last ones first.
  void start(const Sums& sums) {
    finish();
    sums_ = sums;
    next_ = 0;
  }

  // These will be the next.
  void expect(const Sums& sums) {
    coming_ = sums;
    asked_ = 0;
  }

  OCTAVO_INLINE void step() {
    if (next_ < sums_.rows) writer_.write(sums_, next_++);
    if (asked_ < coming_.rows) writer_.expect(coming_, asked_++);
  }

 private:
  void finish() {
    while (next_ < sums_.rows) writer_.write(sums_, next_++);
  }

  const PanelWriter<T>& writer_;
  Sums sums_{}, coming_{};
  int64_t next_ = 0, asked_ = 0;
};

}  // namespace octavo::OCTAVO_ISA
