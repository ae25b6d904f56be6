// Which instruction sets this processor runs, and the operating system lets it.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace octavo {

inline bool has_portable() { return true; }

#if defined(__x86_64__)
inline bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
inline bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
inline bool has_avx512_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}

// Besides the processor, the operating system has to be asked for the tiles' memory; Linux grants it to the process.
inline bool has_amx() {
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

struct IsaTest {
  const char* name;
  bool (*runs)();
};

// Best first.
inline constexpr IsaTest kIsaTests[] = {
#if defined(__x86_64__)
    {"amx", has_amx}, {"avx512_bf16", has_avx512_bf16}, {"avx512", has_avx512}, {"avx2", has_avx2},
#endif
    {"portable", has_portable},
};

}  // namespace octavo
