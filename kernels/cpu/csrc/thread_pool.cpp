#include "thread_pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace octavo {
namespace {

using Clock = std::chrono::steady_clock;

// Long enough to bridge the Python between two kernels of a step, short enough to cost an idle engine nothing.
constexpr auto kSpin = std::chrono::microseconds(60);
constexpr int kPausesPerLook = 32;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A job is published in one word: its number in the upper half, the tasks not yet claimed in the lower. A thread claims
// a task by decrementing the word, which fails once the job is over, so a thread that wakes late touches nothing, and
// nobody waits for a thread that claimed nothing.
class ThreadPool {
 public:
  explicit ThreadPool(int count) { start(count); }

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void resize(int count) {
    std::lock_guard<std::mutex> hold(job_mutex_);
    stop();
    start(count);
  }

  void run(int64_t tasks, TaskFunction function, void* context) {
    std::unique_lock<std::mutex> hold(job_mutex_, std::try_to_lock);
    if (tasks <= 1 || !hold.owns_lock() || workers_.empty()) {
      for (int64_t task = 0; task < tasks; ++task) function(context, task);
      return;
    }
    publish(static_cast<uint32_t>(tasks), function, context);
    work();
    wait_until_done(static_cast<uint32_t>(tasks));
  }

 private:
  void start(int count) {
    stopping_ = false;
    for (int i = 1; i < count; ++i) workers_.emplace_back([this] { worker(); });
  }

  void stop() {
    {
      std::lock_guard<std::mutex> hold(sleep_mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  void publish(uint32_t tasks, TaskFunction function, void* context) {
    function_.store(function, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    tasks_.store(tasks, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    job_.store((++number_ << 32) | tasks);
    if (sleepers_.load() > 0) {
      { std::lock_guard<std::mutex> hold(sleep_mutex_); }
      wake_.notify_all();
    }
  }

  bool has_work() const { return static_cast<uint32_t>(job_.load()) > 0; }

  // Claims and runs tasks until none is left.
  void work() {
    uint64_t job = job_.load();
    while (static_cast<uint32_t>(job) > 0) {
      TaskFunction function = function_.load(std::memory_order_relaxed);
      void* context = context_.load(std::memory_order_relaxed);
      uint32_t tasks = tasks_.load(std::memory_order_relaxed);
      // Success proves that the three fields above belong to this job: they change only when it is over.
      if (!job_.compare_exchange_weak(job, job - 1)) continue;
      function(context, tasks - static_cast<uint32_t>(job));
      done_.fetch_add(1, std::memory_order_release);
      job = job_.load();
    }
  }

  void wait_until_done(uint32_t tasks) {
    for (int looks = 0; done_.load(std::memory_order_acquire) < tasks; ++looks) {
      if (looks < 4096) {
        pause();
      } else {
        std::this_thread::yield();  // the worker's processor is busy with something else
      }
    }
  }

  void worker() {
    while (!stopping_) {
      work();
      if (!spin()) sleep();
    }
  }

  // Looks out for the next job for a moment; whether one came.
  bool spin() const {
    const auto end = Clock::now() + kSpin;
    do {
      for (int i = 0; i < kPausesPerLook; ++i) {
        if (has_work()) return true;
        pause();
      }
    } while (Clock::now() < end && !stopping_);
    return false;
  }

  void sleep() {
    std::unique_lock<std::mutex> hold(sleep_mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(hold, [this] { return stopping_ || has_work(); });
    sleepers_.fetch_sub(1);
  }

  std::mutex job_mutex_;
  std::vector<std::thread> workers_;
  uint64_t number_ = 0;
  std::atomic<TaskFunction> function_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<uint32_t> tasks_{0};
  alignas(64) std::atomic<uint64_t> job_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::mutex sleep_mutex_;
  std::condition_variable wake_;
};

// Never destroyed: its threads may outlive static destruction.
std::atomic<ThreadPool*> pool{nullptr};
std::mutex pool_mutex;

// A forked child has none of the threads and perhaps a held lock: it starts over.
void forget_pool() { pool = new ThreadPool(1); }

ThreadPool& the_pool() {
  ThreadPool* existing = pool.load(std::memory_order_acquire);
  if (existing) return *existing;
  std::lock_guard<std::mutex> hold(pool_mutex);
  if (!pool) {
    pool = new ThreadPool(1);
    pthread_atfork(nullptr, nullptr, forget_pool);
  }
  return *pool;
}

class Scratch {
 public:
  ~Scratch() { std::free(memory_); }

  void* get(size_t bytes) {
    if (bytes_ < bytes) grow((bytes + 4095) / 4096 * 4096);
    return memory_;
  }

 private:
  void grow(size_t bytes) {
    std::free(memory_);
    memory_ = nullptr;
    bytes_ = 0;
    if (posix_memalign(&memory_, 64, bytes) != 0) throw std::bad_alloc();
    bytes_ = bytes;
  }

  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace

int num_threads() { return the_pool().size(); }

void set_num_threads(int count) { the_pool().resize(count); }

void run_tasks(int64_t tasks, TaskFunction function, void* context) { the_pool().run(tasks, function, context); }

void* scratch(size_t bytes) {
  thread_local Scratch mine;
  return mine.get(bytes);
}

void* shared_scratch(size_t bytes) {
  thread_local Scratch mine;
  return mine.get(bytes);
}

}  // namespace octavo
