// Gathers batches ahead of the training loop in threads of its own, and hands them out in order. Memory is a fixed number
// of batches that are used over and over. Which samples and in which order is the sampler's answer alone, so the number
// of threads changes nothing but the time.
#pragma once
#include <memory>

#include "base/clock.h"
#include "base/status.h"
#include "base/view.h"
#include "datasets/dataset.h"
#include "datasets/sampler.h"

namespace dtrain {

struct LoaderOptions {
  int threads = 1;           // 0: batches are gathered inside Next
  int prefetch_batches = 4;  // ready or in work at most; at least 1 where there are threads
  bool augment = false;      // training; seeded by the sampler's seed, the epoch and the sample
};

// For one thread, the training loop's.
class Loader {
 public:
  // `sampler` is for a set of `dataset`'s size. kInvalidArgument for options out of range or another size.
  static StatusOr<std::unique_ptr<Loader>> Make(std::shared_ptr<const Dataset> dataset, const Sampler& sampler,
                                                const LoaderOptions& options);
  ~Loader();  // waits for no more than the batches in work

  // From now on Next gives leaves [first_leaf, first_leaf + leaf_count) of `first_step`, then those of the step after, up to
  // but without `end_step`. At any time, as often as a view changes or a run resumes; what was gathered for another
  // start is dropped. At least one leaf, all of them the sampler's.
  void Start(Step first_step, int64_t first_leaf, int64_t leaf_count, Step end_step);

  // The next batch; it stays as it is until the next call of Next or Start. kOutOfRange behind the last one,
  // kDeadlineExceeded if it was not ready in time (call again), kFailedPrecondition before the first Start, or what Gather of the
  // data set said (kInternal with what() if it threw); that error comes again at each call until Start.
  StatusOr<const Batch*> Next(Deadline deadline);

 private:
  class Pool;
  explicit Loader(std::unique_ptr<Pool> pool);
  std::unique_ptr<Pool> pool_;
};

}  // namespace dtrain
