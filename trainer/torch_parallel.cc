// A file of its own because at::parallel_for is a template that only forks where its caller is compiled with OpenMP; elsewhere it
// silently runs on one thread.
#include "trainer/torch_parallel.h"

#include <ATen/Parallel.h>

#ifndef _OPENMP
#error "compile this file with -fopenmp"
#endif

namespace dtrain {

ParallelFor TorchParallelFor() {
  return [](int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) { at::parallel_for(0, count, grain, body); };
}

}  // namespace dtrain
