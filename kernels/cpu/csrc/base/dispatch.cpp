#include "base/dispatch.h"

#include <atomic>

#include "base/cpu_features.h"

namespace octavo {

#define OCTAVO_DECLARE(isa) \
  namespace isa {           \
  extern const Kernels kernels; \
  }

OCTAVO_DECLARE(portable)
OCTAVO_DECLARE(avx2)
OCTAVO_DECLARE(avx512)
OCTAVO_DECLARE(avx512_bf16)
OCTAVO_DECLARE(amx)

namespace {

struct Variant {
  const Kernels* kernels;
  bool (*runs)();
};

// Those that were built, best first.
const Variant kVariants[] = {
#ifdef OCTAVO_WITH_AMX
    {&amx::kernels, has_amx},
#endif
#ifdef OCTAVO_WITH_AVX512_BF16
    {&avx512_bf16::kernels, has_avx512_bf16},
#endif
#ifdef OCTAVO_WITH_AVX512
    {&avx512::kernels, has_avx512},
#endif
#ifdef OCTAVO_WITH_AVX2
    {&avx2::kernels, has_avx2},
#endif
    {&portable::kernels, has_portable},
};

const Kernels* best() {
  for (const Variant& variant : kVariants) {
    if (variant.runs()) return variant.kernels;
  }
  return &portable::kernels;
}

std::atomic<const Kernels*>& current() {
  static std::atomic<const Kernels*> selected{best()};
  return selected;
}

}  // namespace

const Kernels& kernels() { return *current().load(std::memory_order_relaxed); }

std::string best_isa() {
  for (const IsaTest& isa : kIsaTests) {
    if (isa.runs()) return isa.name;
  }
  return portable::kernels.name;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Variant& variant : kVariants) {
    if (variant.runs()) names.emplace_back(variant.kernels->name);
  }
  return names;
}

bool select_isa(const std::string& name) {
  for (const Variant& variant : kVariants) {
    if (variant.runs() && name == variant.kernels->name) {
      current() = variant.kernels;
      return true;
    }
  }
  return false;
}

}  // namespace octavo
