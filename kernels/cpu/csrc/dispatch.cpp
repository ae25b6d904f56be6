#include "dispatch.h"

#ifdef OCTAVO_X86
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>

namespace octavo {

#define OCTAVO_DECLARE(isa) \
  namespace isa {           \
  extern const Kernels kernels; \
  }

OCTAVO_DECLARE(portable)
#ifdef OCTAVO_X86
OCTAVO_DECLARE(avx2)
OCTAVO_DECLARE(avx512)
OCTAVO_DECLARE(avx512_bf16)
OCTAVO_DECLARE(amx)
#endif

namespace {

#ifdef OCTAVO_X86
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}

// Besides the processor, the operating system has to be asked for the tiles' memory; Linux grants it to the process.
bool has_amx() {
  unsigned a, b, c, d;
  constexpr unsigned kTileBits = 1u << 24 | 1u << 22 | 1u << 25;  // AMX-TILE, AMX-BF16, AMX-INT8
  if (!has_avx512_bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTileBits) != kTileBits) return false;
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif
bool has_portable() { return true; }

struct Variant {
  const Kernels* kernels;
  bool (*runs)();
};

const Variant kVariants[] = {
#ifdef OCTAVO_X86
    {&amx::kernels, has_amx},
    {&avx512_bf16::kernels, has_avx512_bf16},
    {&avx512::kernels, has_avx512},
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
