// Memory for what grows to the largest step, on large pages where the system has them: finding a page takes time, too.
#pragma once

#include <cstddef>

namespace octavo {

class LargeArray {
 public:
  LargeArray() = default;
  LargeArray(const LargeArray&) = delete;
  LargeArray& operator=(const LargeArray&) = delete;
  ~LargeArray();

  // At least `bytes`, whole pages; what it held before is lost where it grows.
  char* get(size_t bytes);

  char* data() const { return static_cast<char*>(memory_); }

 private:
  void release();

  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace octavo
