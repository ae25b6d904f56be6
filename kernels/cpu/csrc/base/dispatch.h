// Which instruction set's kernels run.
#pragma once

#include <string>
#include <vector>

#include "base/kernels.h"

namespace octavo {

// The kernels in use: at first the best this processor runs.
const Kernels& kernels();

// The best instruction set this processor runs, whether its kernels were built or not.
std::string best_isa();

// Names of the variants that were built and that this processor runs, best first.
std::vector<std::string> available_isas();

// Whether the variant exists here; uses it if so.
bool select_isa(const std::string& name);

}  // namespace octavo
