// The sets that are part of the program: a first run needs no files. Sources and licences: datasets/embedded/README.md.
#pragma once
#include <memory>

#include "base/status.h"
#include "datasets/dataset.h"

namespace dtrain {

// 1,797 handwritten digits of (1, 8, 8), pixels 0 to 16 divided by 16; 10 classes.
StatusOr<std::shared_ptr<const Dataset>> OpenDigits();
// 150 flowers of 4 lengths in cm; 3 classes.
StatusOr<std::shared_ptr<const Dataset>> OpenIris();

}  // namespace dtrain
