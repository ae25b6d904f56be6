#include "base/thread_pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/large_array.h"

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

// A job's tasks are dealt out in one contiguous run a thread, so that a thread streams through neighbouring memory; a thread
// that is done with its own run helps with the others', so that one that the system took off its processor holds up nobody
// for longer than a task.
//
// A run is published in one word: the job's number in the upper half, the tasks not yet claimed in the lower. A thread
// claims a task by decrementing the word, which fails once the job is over, so a thread that wakes late touches nothing, and
// nobody waits for a thread that claimed nothing.
class ThreadPool {
 public:
  explicit ThreadPool(int count) { start(count); }

  int size() const { return count_; }

  void resize(int count) {
    std::lock_guard<std::mutex> hold(job_mutex_);
    stop();
    start(count);
  }

  void run(int64_t tasks, TaskFunction function, void* context) {
    std::unique_lock<std::mutex> hold(job_mutex_, std::try_to_lock);
    if (tasks <= 1 || !hold.owns_lock() || count_ == 1) {
      for (int64_t task = 0; task < tasks; ++task) function(context, task);
      return;
    }
    publish(tasks, function, context);
    work(0);
    wait_until_done(tasks);
  }

 private:
  struct alignas(64) Run {
    std::atomic<uint64_t> word{0};
    std::atomic<int64_t> end{0};
  };

  void start(int count) {
    stopping_ = false;
    count_ = count;
    runs_.reset(new Run[static_cast<size_t>(count)]);
    for (int i = 1; i < count; ++i) workers_.emplace_back([this, i] { worker(i); });
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

  void publish(int64_t tasks, TaskFunction function, void* context) {
    function_.store(function, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    ++number_;
    for (int i = 0; i < count_; ++i) {
      const int64_t begin = tasks * i / count_, end = tasks * (i + 1) / count_;
      runs_[i].end.store(end, std::memory_order_relaxed);
      runs_[i].word.store(number_ << 32 | static_cast<uint64_t>(end - begin));
    }
    latest_.store(number_);
    if (sleepers_.load() > 0) {
      { std::lock_guard<std::mutex> hold(sleep_mutex_); }
      wake_.notify_all();
    }
  }

  // Claims and runs tasks, one's own first, until none is left.
  void work(int self) {
    int64_t finished = 0;
    for (int i = 0; i < count_; ++i) finished += work_off(runs_[(self + i) % count_]);
    if (finished) done_.fetch_add(finished, std::memory_order_release);
  }

  int64_t work_off(Run& run) {
    int64_t finished = 0;
    uint64_t word = run.word.load();
    while (static_cast<uint32_t>(word) > 0) {
      TaskFunction function = function_.load(std::memory_order_relaxed);
      void* context = context_.load(std::memory_order_relaxed);
      const int64_t end = run.end.load(std::memory_order_relaxed);
      // Success proves that the three fields above belong to this job: they change only when it is over.
      if (!run.word.compare_exchange_weak(word, word - 1)) continue;
      function(context, end - static_cast<int64_t>(static_cast<uint32_t>(word)));
      ++finished;
      word = run.word.load();
    }
    return finished;
  }

  void wait_until_done(int64_t tasks) {
    for (int looks = 0; done_.load(std::memory_order_acquire) < tasks; ++looks) {
      if (looks < 4096) {
        pause();
      } else {
        std::this_thread::yield();  // the worker's processor is busy with something else
      }
    }
  }

  void worker(int self) {
    uint64_t seen = 0;
    while (!stopping_) {
      seen = latest_.load();
      work(self);
      if (!spin(seen)) sleep(seen);
    }
  }

  // Looks out for a job after number `seen` for a moment; whether one came.
  bool spin(uint64_t seen) const {
    const auto end = Clock::now() + kSpin;
    do {
      for (int i = 0; i < kPausesPerLook; ++i) {
        if (latest_.load() != seen) return true;
        pause();
      }
    } while (Clock::now() < end && !stopping_);
    return false;
  }

  void sleep(uint64_t seen) {
    std::unique_lock<std::mutex> hold(sleep_mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(hold, [this, seen] { return stopping_ || latest_.load() != seen; });
    sleepers_.fetch_sub(1);
  }

  std::mutex job_mutex_;
  std::vector<std::thread> workers_;
  int count_ = 1;
  std::unique_ptr<Run[]> runs_;
  uint64_t number_ = 0;
  std::atomic<TaskFunction> function_{nullptr};
  std::atomic<void*> context_{nullptr};
  alignas(64) std::atomic<uint64_t> latest_{0};
  alignas(64) std::atomic<int64_t> done_{0};
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

}  // namespace

int num_threads() { return the_pool().size(); }

void set_num_threads(int count) { the_pool().resize(count); }

void run_tasks(int64_t tasks, TaskFunction function, void* context) { the_pool().run(tasks, function, context); }

void* scratch(size_t bytes) {
  thread_local LargeArray mine;
  return mine.get(bytes);
}

void* shared_scratch(size_t bytes) {
  thread_local LargeArray mine;
  return mine.get(bytes);
}

void* kept_scratch(size_t bytes) {
  thread_local LargeArray mine;
  return mine.get(bytes);
}

int64_t unique_number() {
  static std::atomic<int64_t> last{0};
  return ++last;
}

}  // namespace octavo
