// Products of many groups of rows.
//
// Stretch after stretch of a panel is brought close, and used by all groups. While matrix tiles are multiplied the
// processor's other units have little to do: at each block of k they write a row of the sums of the group before, and decode
// a part of the stretch that comes next, or ask memory for it.
#pragma once

#include <type_traits>

#include "linear/driver.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kStretch = 640;  // at most so many k of a panel at a time, so that they stay in the first-level cache

// A part of a panel.
struct Part {
  int64_t panel, number;
  Stretch stretch;

  bool operator==(const Part& other) const { return panel == other.panel && number == other.number; }
};

// How panels are cut into parts.
class Parts {
 public:
  explicit Parts(int64_t depth)
      : count((depth + kStretch - 1) / kStretch), depth_(depth), step_((depth / count + kUnit - 1) / kUnit * kUnit) {}

  Part at(int64_t panel, int64_t number) const {
    const int64_t from = number * step_, to = from + step_;
    return {panel, number, {from, to < depth_ ? to : depth_}};
  }
  Part after(const Part& part) const { return part.number + 1 < count ? at(part.panel, part.number + 1) : at(part.panel + 1, 0); }

  const int64_t count;

 private:
  static constexpr int64_t kUnit = 64;  // a multiple of every kernel's block

  const int64_t depth_, step_;
};

// Parts of a weight that are used as they lie.
template <typename T>
class DenseParts {
 public:
  using Value = T;

  DenseParts(const LinearArgs& a, int64_t depth, int64_t) : DenseParts(static_cast<const T*>(a.weight.data), depth * kPanel) {}
  DenseParts(const T* data, int64_t panel_values) : data_(data), panel_(panel_values) {}

  const T* get(const Part& part) { return at(part); }

  // `part` is the next one.
  void prepare(const Part& part) {
    next_ = reinterpret_cast<const char*>(at(part));
    left_ = (part.stretch.to - part.stretch.from) * kPanel * static_cast<int64_t>(sizeof(T)) / kLine;
  }
  // A share of that is to be done in so many steps.
  void share(int64_t shares_left, int64_t steps) {
    const int64_t lines = (left_ + shares_left - 1) / shares_left;
    per_step_ = (lines + steps - 1) / steps;
  }
  OCTAVO_INLINE void step() {
    for (int64_t i = 0; i < per_step_ && left_ > 0; ++i, --left_, next_ += kLine) __builtin_prefetch(next_);
  }
  void finish() {}

 private:
  static constexpr int64_t kLine = 64;

  const T* at(const Part& part) const { return data_ + part.panel * panel_ + part.stretch.from * kPanel; }

  const T* const data_;
  const int64_t panel_;
  const char* next_ = nullptr;
  int64_t left_ = 0, per_step_ = 0;
};

// Parts of a weight that are decoded into memory of the calling thread, which also holds what its last task decoded ahead.
template <typename Decoder>
class DecodedParts {
 public:
  using Value = typename Decoder::Value;

  DecodedParts(const LinearArgs& a, int64_t depth, int64_t call)
      : decoder_(a.weight, depth), call_(call), rooms_(*static_cast<Rooms*>(kept_scratch(sizeof(Rooms)))) {}

  const Value* get(const Part& part) {
    if (rooms_.call != call_ || !(rooms_.part == part)) {
      prepare(part);
      finish();
    }
    return rooms_.values[rooms_.current];
  }

  void prepare(const Part& part) {
    part_ = part;
    decoder_.open(part.panel, part.stretch.from);
    to_ = rooms_.values[1 - rooms_.current];
    done_ = 0;
    left_ = (part.stretch.to - part.stretch.from) * kPanel / Decoder::kUnit;
    prepared_ = true;
  }
  void share(int64_t shares_left, int64_t steps) {
    const int64_t units = (left_ + shares_left - 1) / shares_left;
    per_step_ = (units + steps - 1) / steps;
  }
  OCTAVO_INLINE void step() {
    if (left_ > 0) decode(per_step_ < left_ ? per_step_ : left_);
  }

  void finish() {
    if (!prepared_) return;
    decode(left_);
    decoder_.finish(part_.stretch.to, to_);
    rooms_.current = 1 - rooms_.current;
    rooms_.call = call_;
    rooms_.part = part_;
    prepared_ = false;
  }

 private:
  struct Rooms {
    int64_t call, current;
    Part part;
    alignas(64) Value values[2][kStretch * kPanel];
  };

  OCTAVO_INLINE void decode(int64_t units) {
    decoder_.decode(done_, units, to_);
    done_ += units;
    left_ -= units;
  }

  Decoder decoder_;
  const int64_t call_;
  Rooms& rooms_;
  Part part_{};
  bool prepared_ = false;
  Value* to_ = nullptr;
  int64_t done_ = 0, left_ = 0, per_step_ = 0;
};

// Blocks of a part; at each, what is to be prepared and what is to be written go a step on.
template <typename T, Epilogue kEpilogue, bool kScaled, typename AllParts>
class BusyBlocks {
 public:
  using Value = typename AllParts::Value;
  static constexpr bool kBusy = true;

  BusyBlocks(const Value* data, int64_t first, PendingRows<T>& rows, AllParts& parts)
      : data_(data - first * kPanel), rows_(rows), parts_(parts) {}

  OCTAVO_INLINE const Value* at(int64_t k) {
    parts_.step();
    return data_ + k * kPanel;
  }
  OCTAVO_INLINE void work() { rows_.template step<kEpilogue, kScaled>(); }

  // The blocks alone.
  DenseBlocks<Value> plain() const { return DenseBlocks<Value>(data_); }

 private:
  const Value* const data_;
  PendingRows<T>& rows_;
  AllParts& parts_;
};

// Panels' products with a block of rows, for use by one task.
template <typename Kernel, typename T, typename AllParts>
class GroupsProduct {
 public:
  GroupsProduct(const LinearArgs& args, int64_t depth, const Groups<Kernel, T>& x, const Block& block,
                const PanelWriter<T>& writer, const AllParts& parts)
      : x_(x), block_(block), depth_(depth), panels_(padded(args.weight.n) / kPanel),
        groups_((block.rows + Kernel::kRows - 1) / Kernel::kRows), cut_(depth), parts_(parts), rows_(writer) {
    // Two groups' sums, which stay close; or those of all, where a panel comes in parts.
    const int64_t kept = cut_.count > 1 ? groups_ : 2;
    sums_ = static_cast<float*>(scratch(static_cast<size_t>(kept * Kernel::kRows * kPanel) * sizeof(float)));
  }

  ~GroupsProduct() { rows_.finish(); }

  // `column_scales` where the kernel's sums are integers.
  void multiply(int64_t panel, const float* column_scales = nullptr) {
    with_epilogue(rows_.epilogue(), [&](auto epilogue) {
      for (Part part = cut_.at(panel, 0); part.panel == panel; part = cut_.after(part)) multiply<epilogue()>(part, column_scales);
    });
  }

 private:
  static constexpr bool kScaled = std::is_same_v<typename AllParts::Value, int8_t>;  // sums are integers

  template <Epilogue kEpilogue>
  void multiply(const Part& part, const float* column_scales) {
    PendingRows<T> rows = rows_;  // here nothing that is written can be part of them, which keeps them in registers
    const auto* weights = parts_.get(part);
    const Part next = cut_.after(part);
    const bool more = next.panel < panels_, last = part.stretch.to == depth_;
    const int64_t steps = (part.stretch.to - part.stretch.from + Kernel::kDepth - 1) / Kernel::kDepth;
    rows.share(steps);
    if (more) parts_.prepare(next);
    for (int64_t group = 0; group < groups_; ++group, ++turn_) {
      if (more) parts_.share(groups_ - group, steps);
      const auto x = x_.at(block_.first_group + group);
      Sums sums{sums_of(group), block_.first_row + group * Kernel::kRows, rows_in(group), part.panel * kPanel};
      if constexpr (kScaled) {
        sums.row_scales = Kernel::row_scales(x);
        sums.column_scales = column_scales;
      }
      if (last) rows.template expect<kEpilogue>(sums);
      BusyBlocks<T, kEpilogue, kScaled, AllParts> blocks(weights, part.stretch.from, rows, parts_);
      Kernel::run(static_cast<int>(sums.rows), x, blocks, depth_, part.stretch, sums_of(group));
      if (last) rows.template start<kEpilogue, kScaled>(sums);
    }
    if (more) parts_.finish();
    rows_ = rows;
  }

  float* sums_of(int64_t group) const { return sums_ + (cut_.count > 1 ? group : turn_ % 2) * Kernel::kRows * kPanel; }

  int64_t rows_in(int64_t group) const {
    const int64_t left = block_.rows - group * Kernel::kRows;
    return left < Kernel::kRows ? left : Kernel::kRows;
  }

  const Groups<Kernel, T>& x_;
  const Block block_;
  const int64_t depth_, panels_, groups_;
  const Parts cut_;
  AllParts parts_;
  PendingRows<T> rows_;
  float* sums_;
  int64_t turn_ = 0;
};

}  // namespace octavo::OCTAVO_ISA
