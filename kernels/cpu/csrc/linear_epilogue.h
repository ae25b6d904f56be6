// What becomes of a panel's sums: bias, type, residual, gate.
#pragma once

#include "activation.h"
#include "kernels.h"
#include "linear_layout.h"

namespace octavo::OCTAVO_ISA {

// Sums [rows, 32] of packed columns from `column` on, for rows of the output from `first` on. Where they have scales they are
// integers.
struct Sums {
  const float* data;
  int64_t first, rows, column;
  const float *row_scales = nullptr, *column_scales = nullptr;
};

// 32 integers -> floats
OCTAVO_INLINE void scale_row(const void* sums, float row_scale, const float* column_scales, float* out) {
#pragma GCC unroll 8
  for (int c = 0; c < kPanel; c += kLanes) {
    IVec sum;
    std::memcpy(&sum, static_cast<const char*>(sums) + c * sizeof(float), sizeof sum);
    store(out + c, __builtin_convertvector(sum, Vec) * splat(row_scale) * load(column_scales + c));
  }
}

// T is x's and the bias's type.
template <typename T>
class PanelWriter {
 public:
  // What it needs is copied: a compiler cannot know that what is written does not overwrite the arguments.
  explicit PanelWriter(const LinearArgs& a)
      : epilogue_(a.epilogue), scale_(a.scale), out_(static_cast<char*>(a.out.data)), bias_(static_cast<const T*>(a.weight.bias)),
        stride_(a.out.stride), n_(a.weight.n) {}

  void operator()(const Sums& sums) const {
    for (int64_t row = 0; row < sums.rows; ++row) write(sums, row);
  }

  OCTAVO_INLINE void write(const Sums& sums, int64_t row) const {
    alignas(64) float scaled[kPanel];
    const float* from = sums.data + row * kPanel;
    const int64_t to = sums.first + row;
    if (sums.row_scales) {
      scale_row(from, sums.row_scales[row], sums.column_scales, scaled);
      from = scaled;
    }
    switch (epilogue_) {
      case Epilogue::store: return combine<T>(from, to, sums.column, [](Vec x, const T*) { return x; });
      case Epilogue::wide: return combine<float>(from, to, sums.column, [](Vec x, const float*) { return x; });
      case Epilogue::add:
        return combine<float>(from, to, sums.column, [scale = splat(scale_)](Vec x, const float* old) {
          return fmadd(x, scale, load(old));
        });
      case Epilogue::silu_gate: return gate(from, to, sums.column, [](Vec x) { return silu<T>(x); });
      case Epilogue::gelu_gate: return gate(from, to, sums.column, [](Vec x) { return gelu<T>(x); });
    }
  }

  // Asks for the memory that a row will be written to.
  OCTAVO_INLINE void expect(const Sums& sums, int64_t row) const {
    const bool gated = epilogue_ == Epilogue::silu_gate || epilogue_ == Epilogue::gelu_gate;
    const int64_t size = epilogue_ == Epilogue::wide || epilogue_ == Epilogue::add ? sizeof(float) : sizeof(T);
    const char* out = out_ + ((sums.first + row) * stride_ + sums.column / (gated ? 2 : 1)) * size;
    prefetch_to_write(out);
    if (size == sizeof(float)) prefetch_to_write(out + 64);
  }

 private:
  // out = combine(sum + bias, where out lies)
  template <typename Out, typename Combine>
  OCTAVO_INLINE void combine(const float* sums, int64_t row, int64_t column, const Combine& with) const {
    const int64_t left = n_ - column, columns = left < kPanel ? left : kPanel;
    Out* out = reinterpret_cast<Out*>(out_) + row * stride_ + column;
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
    const int64_t column = packed / 2, left = n_ / 2 - column, columns = left < kHalf ? left : kHalf;
    T* out = reinterpret_cast<T*>(out_) + row * stride_ + column;
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
    return bias_ ? sum + load(bias_ + column + c) : sum;
  }

  Epilogue epilogue_;
  float scale_;
  char* out_;
  const T* bias_;
  int64_t stride_, n_;
};

// Sums that are written little by little, while others are computed.
template <typename T>
class PendingRows {
 public:
  explicit PendingRows(const PanelWriter<T>& writer) : writer_(writer) {}

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

  // So many steps are to do for a group.
  void share(int64_t steps) { per_step_ = (kMostRows + steps - 1) / steps; }

  OCTAVO_INLINE void step() {
    for (int64_t i = 0; i < per_step_; ++i) {
      if (next_ < sums_.rows) writer_.write(sums_, next_++);
      if (asked_ < coming_.rows) writer_.expect(coming_, asked_++);
    }
  }

  void finish() {
    while (next_ < sums_.rows) writer_.write(sums_, next_++);
  }

 private:
  PanelWriter<T> writer_;
  static constexpr int64_t kMostRows = 16;

  Sums sums_{}, coming_{};
  int64_t next_ = 0, asked_ = 0, per_step_ = 1;
};

}  // namespace octavo::OCTAVO_ISA
