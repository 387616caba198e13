// Cuts the flat gradient into buckets, so that communication can start before backward ends.
// After Li et al., "PyTorch Distributed", VLDB 2020. No I/O; safe to call from any thread.
#pragma once
#include <cstdint>
#include <vector>

#include "base/flat_layout.h"
#include "base/status.h"

namespace dtrain {

using BucketId = int32_t;
using Bucket = ElementRange;  // in the order backward fills the flat gradient

struct BucketOptions {
  int64_t bucket_bytes_max = 4 << 20;
  int64_t first_bucket_bytes_max = 1 << 20;  // small, so that the first send starts early
};

// Every rank that passes the same layout gets the same plan; that is what keeps the ranks in step.
// The buckets cover [0, layout.elements); cuts fall on block boundaries only, so a bucket holds at least one block.
// kInvalidArgument if a limit is not positive.
StatusOr<std::vector<Bucket>> PlanBuckets(const FlatLayout& layout, const BucketOptions& options);

}  // namespace dtrain
