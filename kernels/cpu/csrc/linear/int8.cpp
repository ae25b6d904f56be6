// Weights into 8 bits and back.
#include "linear/int8_layout.h"
#include "base/table.h"

namespace octavo::OCTAVO_ISA {
namespace {

// One row of the weight -> packed column n.
template <typename T>
void pack_column(const PackArgs& a, int64_t n) {
  const int64_t row = row_of_column(a, n);
  char* packed = static_cast<char*>(a.packed);
  auto* head = reinterpret_cast<PanelHead*>(packed + n / kPanel * byte_panel_bytes(a.k));
  if (row < 0) {
    head->scales[n % kPanel] = 0.0f;
    head->starts[n % kPanel] = 0;
    for (int64_t k = 0; k < byte_depth(a.k); k += kQuad) std::memset(packed + byte_index(n, k, a.k), 0, kQuad);
    return;
  }
  const T* from = static_cast<const T*>(a.weight.data) + row * a.weight.stride;
  int32_t sum = 0;
  const float scale = quantize(from, a.k, [&](int64_t k, const ByteBlock& values) {
    int8_t bytes[kByteBlock];
    std::memcpy(bytes, &values, sizeof bytes);
    for (int i = 0; i < kByteBlock; i += kQuad) std::memcpy(packed + byte_index(n, k + i, a.k), bytes + i, kQuad);
    for (const int8_t value : bytes) sum += value;
  });
  head->scales[n % kPanel] = scale / 16;
  head->starts[n % kPanel] = -128 * sum;
}

template <typename T>
void unpack(const Weight& weight, int64_t row, T* out) {
  const char* packed = static_cast<const char*>(weight.data);
  const auto* head = reinterpret_cast<const PanelHead*>(packed + row / kPanel * byte_panel_bytes(weight.k));
  const Vec scale = splat(head->scales[row % kPanel]);
  for (int64_t block = 0; block < weight.k; block += kByteBlock) {
    int8_t bytes[kByteBlock];
    for (int k = 0; k < kByteBlock; k += kQuad) std::memcpy(bytes + k, packed + byte_index(row, block + k, weight.k), kQuad);
    float values[kByteBlock];
    for (int k = 0; k < kByteBlock; ++k) values[k] = static_cast<float>(bytes[k]);
    Vec v[kByteVecs];
    for (int i = 0; i < kByteVecs; ++i) v[i] = load(values + i * kLanes) * scale;
    mix(v);
    for (int i = 0; i < kByteVecs; ++i) {
      const int64_t left = weight.k - block - i * kLanes;
      if (left >= kLanes) store(out + block + i * kLanes, v[i]);
      else if (left > 0) store_some(out + block + i * kLanes, v[i], left);
    }
  }
}

}  // namespace

void pack_int8(const PackArgs& args) {
  const int64_t panels = padded(args.n) / kPanel;
  OCTAVO_DISPATCH(args.dtype, T, parallel_for(panels, true, [&](int64_t panel) {
                    for (int64_t n = panel * kPanel; n < (panel + 1) * kPanel; ++n) pack_column<T>(args, n);
                  }));
}

void unpack_int8_row(const Weight& weight, int64_t row, void* out) {
  OCTAVO_DISPATCH(weight.dtype, T, unpack<T>(weight, row, static_cast<T*>(out)));
}

}  // namespace octavo::OCTAVO_ISA
