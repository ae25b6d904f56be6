// Shapes of the processor's eight tile registers (AMX).
#pragma once

#include <cstdint>

namespace octavo {

// In the layout that the processor reads; full tiles at first.
struct __attribute__((packed, aligned(64))) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace octavo
