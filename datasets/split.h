// Cuts a set without a test part into training and validation rows.
#pragma once
#include <cstdint>
#include <vector>

#include "base/status.h"

namespace dtrain {

struct SplitRows {
  std::vector<int64_t> train, valid;  // ascending; together every row once
};

// A pure function: round(`fraction` * `size`) rows drawn by `seed` are for validation. kInvalidArgument unless 0 < fraction < 1
// and both parts get a row.
StatusOr<SplitRows> SplitByFraction(int64_t size, double fraction, uint64_t seed);

}  // namespace dtrain
