// Element types, numbered as kernels/cpu/native.py numbers them.
#pragma once

#include <cstdint>

namespace octavo {

enum class DType : int { f32 = 0, bf16 = 1, f16 = 2 };

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

}  // namespace octavo

// Runs a statement with `Type` naming the C++ type of a DType.
#define OCTAVO_DISPATCH(dtype, Type, ...)              \
  switch (dtype) {                                     \
    case ::octavo::DType::f32: {                       \
      using Type = float;                              \
      __VA_ARGS__;                                     \
    } break;                                           \
    case ::octavo::DType::bf16: {                      \
      using Type = ::octavo::bf16;                     \
      __VA_ARGS__;                                     \
    } break;                                           \
    case ::octavo::DType::f16: {                       \
      using Type = ::octavo::f16;                      \
      __VA_ARGS__;                                     \
    } break;                                           \
  }
