// What becomes of a panel's sums: bias, type, residual, gate.
#pragma once

#include <type_traits>

#include "rows/activation.h"
#include "base/kernels.h"
#include "linear/layout.h"
#include "linear/runs.h"

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
    case Epilogue::runs: return body(std::integral_constant<Epilogue, Epilogue::runs>());
  }
}

// T is x's and the bias's type.
template <typename T>
class PanelWriter {
 public:
  // A row of sums, its scale, where it goes, and how sharp a token is drawn from it.
  struct Row {
    const float *sums, *scale;
    char* out;
    const float* sharpness = nullptr;
  };

  // What it needs is copied: a compiler cannot know that what is written does not overwrite the arguments.
  explicit PanelWriter(const LinearArgs& a)
      : epilogue_(a.epilogue), scale_(a.scale), out_(static_cast<char*>(a.out.data)), bias_(static_cast<const T*>(a.weight.bias)),
        sharpness_(a.sharpness), stride_(a.out.stride), n_(a.weight.n), first_column_(a.first_panel * kPanel) {}

  Epilogue epilogue() const { return epilogue_; }

  // One copy for all kernels: to call it costs nothing beside a panel's product, and compiling it does.
  __attribute__((noinline)) void operator()(const Sums& sums) const {
    with_epilogue(epilogue_, [&](auto epilogue) {
      sums.row_scales ? write_all<epilogue(), true>(sums) : write_all<epilogue(), false>(sums);
    });
  }

  template <Epilogue kEpilogue>
  Row first_row(const Sums& sums) const {
    constexpr int64_t kColumns = kEpilogue == Epilogue::runs ? kRun : is_gated(kEpilogue) ? 2 : 1;
    const int64_t offset = sums.first * stride_ + (sums.column - first_column_) / kColumns;
    return {sums.data, sums.row_scales, out_ + offset * static_cast<int64_t>(sizeof(Out<kEpilogue>)),
            sharpness_ ? sharpness_ + sums.first : nullptr};
  }

  template <Epilogue kEpilogue, bool kScaled>
  OCTAVO_INLINE void advance(Row& row) const {
    row.sums += kPanel;
    if (kScaled) ++row.scale;
    if (kEpilogue == Epilogue::runs && row.sharpness) ++row.sharpness;
    row.out += row_bytes<kEpilogue>();
  }

  template <Epilogue kEpilogue>
  OCTAVO_INLINE int64_t row_bytes() const {
    return stride_ * static_cast<int64_t>(sizeof(Out<kEpilogue>));
  }

  // kScaled: the sums are integers.
  template <Epilogue kEpilogue, bool kScaled>
  OCTAVO_INLINE void write(const Sums& panel, const Row& row) const {
    const int64_t columns = n_ - panel.column;
    columns >= kPanel ? write_whole<kEpilogue, kScaled>(panel, row) : write_some<kEpilogue, kScaled>(panel, row, columns);
  }

  // Asks for the memory that a row will be written to.
  template <Epilogue kEpilogue>
  OCTAVO_INLINE static void expect(const char* out) {
    prefetch_to_write(out);
    if (is_wide(kEpilogue)) prefetch_to_write(out + 64);
  }

 private:
  template <Epilogue kEpilogue>
  using Out = std::conditional_t<is_wide(kEpilogue) || kEpilogue == Epilogue::runs, float, T>;

  template <Epilogue kEpilogue, bool kScaled>
  void write_all(const Sums& sums) const {
    Row row = first_row<kEpilogue>(sums);
    for (int64_t i = 0; i < sums.rows; ++i, advance<kEpilogue, kScaled>(row)) write<kEpilogue, kScaled>(sums, row);
  }

  // kLanes columns of the product.
  template <bool kScaled>
  OCTAVO_INLINE Vec product(const Sums& panel, const Row& row, int64_t c) const {
    const Vec x = kScaled ? scaled(row.sums + c, *row.scale, panel.column_scales + c) : load(row.sums + c);
    return bias_ ? x + load(bias_ + panel.column + c) : x;  // which is padded to whole panels, as the weight is
  }

  template <Epilogue kEpilogue, bool kScaled>
  OCTAVO_INLINE void write_whole(const Sums& panel, const Row& row) const {
    const auto sum = [&](int64_t c) { return product<kScaled>(panel, row, c); };
    auto* out = reinterpret_cast<Out<kEpilogue>*>(row.out);
    if constexpr (kEpilogue == Epilogue::runs) {
      RunValues values;
#pragma GCC unroll 8
      for (int i = 0; i < kRunVecs; ++i) values.of[i] = sum(i * kLanes);
      write_run(values, row);
    } else if constexpr (is_gated(kEpilogue)) {  // gates in the first half of the panel, ups in the second
#pragma GCC unroll 8
      for (int64_t c = 0; c < kHalf; c += kLanes) {
        const Vec gate = sum(c);
        store(out + c, (kEpilogue == Epilogue::silu_gate ? silu<T>(gate) : gelu<T>(gate)) * sum(kHalf + c));
      }
    } else {
#pragma GCC unroll 8
      for (int64_t c = 0; c < kPanel; c += kLanes) {
        if constexpr (kEpilogue == Epilogue::add) {
          store(out + c, fmadd(sum(c), splat(scale_), load(out + c)));
        } else {
          store(out + c, sum(c));
        }
      }
    }
  }

  OCTAVO_INLINE void write_run(const RunValues& values, const Row& row) const {
    float* peak = reinterpret_cast<float*>(row.out);
    *peak = peak_of(values);
    // A row's masses follow its peaks.
    if (row.sharpness) peak[stride_ / 2] = mass_of(values, *peak, *row.sharpness);
  }

  // The last panel may have less columns.
  template <Epilogue kEpilogue, bool kScaled>
  __attribute__((noinline)) void write_some(const Sums& panel, const Row& row, int64_t columns) const {
    if constexpr (kEpilogue == Epilogue::runs) {
      float logits[kRun];
      for (int64_t c = 0; c < kRun; c += kLanes) store(logits + c, product<kScaled>(panel, row, c));
      for (int64_t c = columns; c < kRun; ++c) logits[c] = kNever;
      return write_run(load_run(logits), row);
    }
    Out<kEpilogue> whole[kPanel] = {};
    const size_t bytes = static_cast<size_t>(is_gated(kEpilogue) ? columns / 2 : columns) * sizeof whole[0];
    std::memcpy(whole, row.out, bytes);
    write_whole<kEpilogue, kScaled>(panel, {row.sums, row.scale, reinterpret_cast<char*>(whole)});
    std::memcpy(row.out, whole, bytes);
  }

  Epilogue epilogue_;
  float scale_;
  char* out_;
  const T* bias_;
  const float* sharpness_;
  int64_t stride_, n_, first_column_;
};

// Sums that are written little by little, while others are computed.
template <typename T>
class PendingRows {
 public:
  explicit PendingRows(const PanelWriter<T>& writer) : writer_(writer) {}

  // Writes what is left of the last ones first.
  template <Epilogue kEpilogue, bool kScaled>
  void start(const Sums& sums) {
    finish();
    panel_ = sums;
    row_ = writer_.template first_row<kEpilogue>(sums);
    left_ = sums.rows;
  }

  // These will be the next.
  template <Epilogue kEpilogue>
  void expect(const Sums& sums) {
    coming_ = writer_.template first_row<kEpilogue>(sums).out;
    to_ask_ = sums.rows;
  }

  // So many steps are to do for a group.
  void share(int64_t steps) { per_step_ = (kMostRows + steps - 1) / steps; }

  template <Epilogue kEpilogue, bool kScaled>
  OCTAVO_INLINE void step() {
    for (int64_t i = 0; i < per_step_; ++i) {
      if (left_ > 0) write<kEpilogue, kScaled>();
      if (to_ask_ > 0) {
        writer_.template expect<kEpilogue>(coming_);
        coming_ += writer_.template row_bytes<kEpilogue>();
        --to_ask_;
      }
    }
  }

  void finish() {
    if (left_ == 0) return;
    const int64_t done = panel_.rows - left_;
    const float* scales = panel_.row_scales ? panel_.row_scales + done : nullptr;
    writer_({panel_.data + done * kPanel, panel_.first + done, left_, panel_.column, scales, panel_.column_scales});
    left_ = 0;
  }

  Epilogue epilogue() const { return writer_.epilogue(); }

 private:
  template <Epilogue kEpilogue, bool kScaled>
  OCTAVO_INLINE void write() {
    writer_.template write<kEpilogue, kScaled>(panel_, row_);
    writer_.template advance<kEpilogue, kScaled>(row_);
    --left_;
  }

  static constexpr int64_t kMostRows = 16;

  PanelWriter<T> writer_;
  Sums panel_{};
  typename PanelWriter<T>::Row row_{};
  const char* coming_ = nullptr;
  int64_t left_ = 0, to_ask_ = 0, per_step_ = 1;
};

}  // namespace octavo::OCTAVO_ISA
