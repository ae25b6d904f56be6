// Products with GGUF blocks on matrix tiles (AMX), for more rows than a pass without takes. Tiles give blocks' dot products, which are
// exact, and these are added up by the same instructions: to the bit what fewer rows get.
#pragma once

#include "linear/amx.h"
#include "linear/blocks.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_AMX)

template <typename Form>
struct BlockTileKernel : KernelDefaults {
  using Few = BlockKernel<Form>;
  using X = typename Few::X;
  static constexpr int kRows = kTileRows, kParts = Form::kSplit, kPartQuads = kQuads / kParts;

  static constexpr int64_t group_bytes(int64_t depth) { return kRows * Few::row_bytes(depth); }
  static constexpr int64_t panel_bytes(int64_t depth) { return Form::panel_bytes(depth); }

  template <typename T>
  static void prepare(char* group, int64_t row, const T* x, int64_t k, int64_t depth) {
    Few::prepare(group, row, x, k, depth);
  }

  // Tiles 0 and 1 are sums, 4 is of x, 6 and 7 of codes: as many k as share a scale.
  static void begin() {
    TileConfig config;
    config.row_bytes[4] = kPartQuads * 4;
    config.rows[0] = config.rows[1] = config.rows[4] = kTileRows;
    config.rows[6] = config.rows[7] = kPartQuads;
    _tile_loadconfig(&config);
  }
  static void end() { _tile_release(); }

  // Rows past `rows` hold whatever x's memory does; nobody reads their sums.
  static void run(int rows, const char* x, const char* panel, int64_t depth, bool again, float* out) {
    if (rows <= Few::kRows) return Few::run(rows, x, panel, depth, again, out);
    multiply(reinterpret_cast<const X*>(x), reinterpret_cast<const uint8_t*>(panel), depth, again, out);
  }

 private:
  static constexpr int64_t kByteBlock = 2 * kQuads * kQuadBytes;  // a block's codes, a byte each

  struct Dots {
    alignas(64) int32_t data[kParts][kRows * kPanel];
  };

  // A block's products are under way while those of the one before are added up.
  static void multiply(const X* x, const uint8_t* panel, int64_t depth, bool again, float* out) {
    const int64_t blocks = depth / kBlock;
    const Bytes bytes(panel, blocks, again);
    Dots dots[2];
    std::memset(out, 0, kRows * kPanel * sizeof(float));
    multiply_block(x, blocks, bytes.block(0), dots[0]);
    for (int64_t block = 0; block < blocks; ++block) {
      if (block + 1 < blocks) multiply_block(x + block + 1, blocks, bytes.block(block + 1), dots[(block + 1) % 2]);
      add_block(x + block, blocks, panel, block, dots[block % 2], out);
    }
  }

  // A panel's codes as tiles are loaded from. Those of 8 bits lie so; others are spread out in the thread's memory, once for
  // all rows.
  class Bytes {
   public:
    Bytes(const uint8_t* panel, int64_t blocks, bool again) : panel_(panel) {
      if constexpr (Form::kBits == 8) return;
      spread_ = static_cast<uint8_t*>(octavo::scratch(static_cast<size_t>(blocks * kByteBlock)));
      for (int64_t block = 0; block < blocks && !again; ++block) {
        Few::prefetch(Form::codes(panel, block));
        spread(Form::codes(panel, block), spread_ + block * kByteBlock);
      }
    }
    const uint8_t* block(int64_t number) const {
      return Form::kBits == 8 ? Form::codes(panel_, number) : spread_ + number * kByteBlock;
    }

   private:
    const uint8_t* panel_;
    uint8_t* spread_ = nullptr;
  };

  // Dot products of a block of 16 rows of x, which lie `stride` blocks apart.
  OCTAVO_INLINE static void multiply_block(const X* x, int64_t stride, const uint8_t* bytes, Dots& dots) {
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) {
      const uint8_t* some = bytes + part * kPartQuads * kQuadBytes;
      _tile_zero(0);
      _tile_zero(1);
      _tile_loadd(4, x->quads + part * kPartQuads, stride * static_cast<int64_t>(sizeof(X)));
      _tile_loadd(6, some, kQuadBytes);
      _tile_dpbsud(0, 4, 6);
      _tile_loadd(6, some + kQuads * kQuadBytes, kQuadBytes);
      _tile_dpbsud(1, 4, 6);
      _tile_stored(0, dots.data[part], kPanel * 4);
      _tile_stored(1, dots.data[part] + kHalf, kPanel * 4);
    }
  }

  // A byte a code, as codes of 8 bits lie.
  OCTAVO_INLINE static void spread(const uint8_t* codes, uint8_t* bytes) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      IVec quads[kQuads];
      Form::Code::load(codes, half * kHalf, quads);
      std::memcpy(bytes + half * sizeof quads, quads, sizeof quads);
    }
  }

  OCTAVO_INLINE static void add_block(const X* x, int64_t stride, const uint8_t* panel, int64_t block, const Dots& dots,
                                      float* out) {
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVecs; ++v) {
      Vec scale[kParts], minimum{};
      for (int part = 0; part < kParts; ++part) scale[part] = Form::scale(panel, block, v * kLanes, part);
      if constexpr (Form::kMinimum) minimum = Form::minimum(panel, block, v * kLanes);
#pragma GCC unroll 4
      for (int row = 0; row < kRows; ++row) {
        const X& here = x[row * stride];
        float* to = out + row * kPanel + v * kLanes;
        Vec total = load(to);
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
          IVec dot;
          std::memcpy(&dot, dots.data[part] + row * kPanel + v * kLanes, sizeof dot);
          if constexpr (Form::kOffset != 0) dot += here.start[part];
          total = Few::add_dot(total, dot, scale[part], splat(here.scale));
        }
        if constexpr (Form::kMinimum) total = fmadd(minimum, splat(here.sum), total);
        store(to, total);
      }
    }
  }
};

#endif

}  // namespace octavo::OCTAVO_ISA
