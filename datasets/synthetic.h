// A classification set of any size that is computed, not stored: one prototype a class plus noise. Learnable, so that a
// loss that does not fall is a finding; without end, so that throughput can be measured at any scale.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "datasets/dataset.h"

namespace dtrain {

struct SyntheticOptions {
  uint64_t seed = 0;
  int64_t samples = 10'000;
  int64_t first_sample = 0;  // sets of one seed with disjoint ranges are one distribution: training and test part
  std::vector<int64_t> shape = {1, 28, 28};
  int64_t classes = 10;
};

// Sample i is a pure function of (seed, i, shape, classes): its class is drawn evenly, its elements are the prototype's
// (uniform, mean 0, variance 1) plus uniform noise of mean 0, variance 1. Memory: the prototypes alone.
// kInvalidArgument names the option that is out of range.
StatusOr<std::shared_ptr<const Dataset>> MakeSynthetic(const SyntheticOptions& options);

}  // namespace dtrain
