// Prints, as a CMake list, the instruction sets that kernels are worth building for on this machine; portable always is.
#include <cstdio>
#include <cstring>

#include "base/cpu_features.h"

int main() {
  const char* separator = "";
  for (const octavo::IsaTest& isa : octavo::kIsaTests) {
    if (!isa.runs() || std::strcmp(isa.name, "portable") == 0) continue;
    std::printf("%s%s", separator, isa.name);
    separator = ";";
  }
  return 0;
}
