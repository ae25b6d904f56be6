#include "base/large_array.h"

#include <sys/mman.h>

#include <new>

namespace octavo {
namespace {

constexpr size_t kSmallPage = 4096, kLargePage = size_t{2} << 20;
constexpr size_t kWorthALargePage = kLargePage / 8;

}  // namespace

LargeArray::~LargeArray() { release(); }

void LargeArray::release() {
  if (memory_) munmap(memory_, bytes_);
  memory_ = nullptr;
  bytes_ = 0;
}

char* LargeArray::get(size_t bytes) {
  if (bytes <= bytes_) return data();
  release();
  const size_t page = bytes >= kWorthALargePage ? kLargePage : kSmallPage, size = (bytes + page - 1) / page * page;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (page == kLargePage) madvise(memory, size, MADV_HUGEPAGE);  // advice: where it is not taken, small pages do as well
#endif
  memory_ = memory;
  bytes_ = size;
  return data();
}

}  // namespace octavo
