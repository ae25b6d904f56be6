// What the files that make up the Python module share.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

namespace octavo {

using Address = uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

void bind_program(nanobind::module_& m);

}  // namespace octavo
