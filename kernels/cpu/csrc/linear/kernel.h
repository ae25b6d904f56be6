// What a kernel of products need not say itself.
#pragma once

#include <cstdint>

namespace octavo::OCTAVO_ISA {

struct KernelDefaults {
  static constexpr bool kPairs = false;      // whether it has a `run_pair` for two groups in one pass over a panel
  static constexpr bool kTakesRows = false;  // whether it reads x as it lies

  // Rows a thread from which on each takes rows, not panels: then it reads the whole weight, and its products must take longer.
  static constexpr int64_t kOwnRows = 128;

  // Asks for the memory that `prepare` is going to write.
  static void expect(char*, int64_t, int64_t) {}

  // Around a task's calls of `run`.
  static void begin() {}
  static void end() {}
};

}  // namespace octavo::OCTAVO_ISA
