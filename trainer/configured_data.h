// The data sets that a run's configuration names, with errors that carry the right exit code. Torch-free.
#pragma once
#include "base/value.h"
#include "datasets/open_dataset.h"

namespace dtrain {

// Seeded by run.seed. kConfiguration for a setting that does not fit, kSetUp for a file that is missing or broken.
StatusOr<DatasetPair> OpenConfiguredData(const Value& config);

}  // namespace dtrain
