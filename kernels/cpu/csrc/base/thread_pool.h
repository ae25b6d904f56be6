// The one pool of threads behind every native kernel.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo {

using TaskFunction = void (*)(void* context, int64_t task);

// Threads a job may use, the calling one included.
int num_threads();
void set_num_threads(int count);

// Runs function(context, 0 .. tasks - 1), each once, in any order and on any thread; returns when all are done. A job
// started while another thread's job runs is worked off by its caller alone.
void run_tasks(int64_t tasks, TaskFunction function, void* context);

// Memory of the calling thread, 64-byte aligned, at least `bytes`; what it held before is lost.
void* scratch(size_t bytes);

// Memory of the calling thread, of another piece than `scratch`: for what a job's caller prepares and its tasks, which use `scratch`, read.
void* shared_scratch(size_t bytes);

// Memory of the calling thread, of a third piece that keeps what it held, zeros at first, as long as it is asked for with the same size.
void* kept_scratch(size_t bytes);

// A number that no other call gets, from 1 on.
int64_t unique_number();

}  // namespace octavo
