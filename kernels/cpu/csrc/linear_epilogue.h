// What becomes of a panel's sums: bias, type, residual, gate.
#pragma once

#include <type_traits>

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

// kLanes integers -> floats
OCTAVO_INLINE Vec scaled(const void* sums, float row_scale, const float* column_scales) {
  IVec sum;
  std::memcpy(&sum, sums, sizeof sum);
  return __builtin_convertvector(sum, Vec) * splat(row_scale) * load(column_scales);
}

constexpr bool is_gated(Epilogue epilogue) { return epilogue == Epilogue::silu_gate || epilogue == Epilogue::gelu_gate; }
constexpr bool is_wide(Epilogue epilogue) { return epilogue == Epilogue::wide || epilogue == Epilogue::add; }

// body(the epilogue as a constant, as std::integral_constant)
template <typename Body>
OCTAVO_INLINE void with_epilogue(Epilogue epilogue, const Body& body) {
  switch (epilogue) {
    case Epilogue::store: return body(std::integral_constant<Epilogue, Epilogue::store>());
    case Epilogue::wide: return body(std::integral_constant<Epilogue, Epilogue::wide>());
    case Epilogue::add: return body(std::integral_constant<Epilogue, Epilogue::add>());
    case Epilogue::silu_gate: return body(std::integral_constant<Epilogue, Epilogue::silu_gate>());
    case Epilogue::gelu_gate: return body(std::integral_constant<Epilogue, Epilogue::gelu_gate>());
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

  // Rows from `row` on.
  void operator()(const Sums& sums, int64_t row = 0) const {
    with_epilogue(epilogue_, [&](auto constant) {
      for (; row < sums.rows; ++row) {
        sums.row_scales ? write<constant(), true>(sums, row) : write<constant(), false>(sums, row);
      }
    });
  }

  // One row. kScaled: the sums are integers.
  template <Epilogue kEpilogue, bool kScaled>
  OCTAVO_INLINE void write(const Sums& sums, int64_t row) const {
    const float* from = sums.data + row * kPanel;
    const auto sum = [&](int64_t c) {
      const Vec x = kScaled ? scaled(from + c, sums.row_scales[row], sums.column_scales + c) : load(from + c);
      return bias_ ? x + load(bias_ + sums.column + c) : x;  // which is padded to whole panels, as the weight is
    };
    const int64_t to = sums.first + row;
    if constexpr (is_gated(kEpilogue)) {
      gate(sum, to, sums.column, [](Vec x) { return kEpilogue == Epilogue::silu_gate ? silu<T>(x) : gelu<T>(x); });
    } else if constexpr (kEpilogue == Epilogue::add) {
      combine<float>(sum, to, sums.column, [this](Vec x, const float* old) { return fmadd(x, splat(scale_), load(old)); });
    } else {
      using Out = std::conditional_t<is_wide(kEpilogue), float, T>;
      combine<Out>(sum, to, sums.column, [](Vec x, const Out*) { return x; });
    }
  }

  // Asks for the memory that a row will be written to.
  template <Epilogue kEpilogue>
  OCTAVO_INLINE void expect(const Sums& sums, int64_t row) const {
    constexpr int64_t kSize = is_wide(kEpilogue) ? sizeof(float) : sizeof(T), kColumns = is_gated(kEpilogue) ? 2 : 1;
    const char* out = out_ + ((sums.first + row) * stride_ + sums.column / kColumns) * kSize;
    prefetch_to_write(out);
    if (kSize == sizeof(float)) prefetch_to_write(out + 64);
  }

  Epilogue epilogue() const { return epilogue_; }

 private:
  // out = with(sum(column), where out lies)
  template <typename Out, typename Sum, typename Combine>
  OCTAVO_INLINE void combine(const Sum& sum, int64_t row, int64_t column, const Combine& with) const {
    const int64_t left = n_ - column, columns = left < kPanel ? left : kPanel;
    Out* out = reinterpret_cast<Out*>(out_) + row * stride_ + column;
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) store(out + c, with(sum(c), out + c));
    if (c < columns) {
      Out whole[kLanes] = {};
      std::memcpy(whole, out + c, (columns - c) * sizeof(Out));
      store_some(out + c, with(sum(c), whole), columns - c);
    }
  }

  // Gates in the first half of the panel, ups in the second -> half as many columns.
  template <typename Sum, typename Activation>
  OCTAVO_INLINE void gate(const Sum& sum, int64_t row, int64_t packed, const Activation& activation) const {
    const int64_t column = packed / 2, left = n_ / 2 - column, columns = left < kHalf ? left : kHalf;
    T* out = reinterpret_cast<T*>(out_) + row * stride_ + column;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const Vec gated = activation(sum(c)) * sum(kHalf + c);
      if (columns - c < kLanes) {
        store_some(out + c, gated, columns - c);
      } else {
        store(out + c, gated);
      }
    }
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

  template <Epilogue kEpilogue, bool kScaled>
  OCTAVO_INLINE void step() {
    for (int64_t i = 0; i < per_step_; ++i) {
      if (next_ < sums_.rows) writer_.template write<kEpilogue, kScaled>(sums_, next_++);
      if (asked_ < coming_.rows) writer_.template expect<kEpilogue>(coming_, asked_++);
    }
  }

  void finish() {
    writer_(sums_, next_);
    next_ = sums_.rows;
  }

  Epilogue epilogue() const { return writer_.epilogue(); }

 private:
  PanelWriter<T> writer_;
  static constexpr int64_t kMostRows = 16;

  Sums sums_{}, coming_{};
  int64_t next_ = 0, asked_ = 0, per_step_ = 1;
};

}  // namespace octavo::OCTAVO_ISA
