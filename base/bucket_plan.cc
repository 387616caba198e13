#include "base/bucket_plan.h"

namespace dtrain {

StatusOr<std::vector<Bucket>> PlanBuckets(const FlatLayout& layout, const BucketOptions& options) {
  for (const int64_t bytes : {options.bucket_bytes_max, options.first_bucket_bytes_max}) {
    if (bytes <= 0) return InvalidArgument("plan buckets: a limit of ", bytes, " bytes; expected at least 1");
  }
  std::vector<Bucket> buckets;
  const int64_t element_bytes = ElementBytes(layout.dtype);
  int64_t begin = 0;
  for (size_t block = 0; block < layout.blocks.size(); ++block) {
    // A bucket ends where the next block begins, so padding stays with the tensor before it.
    const int64_t end = block + 1 < layout.blocks.size() ? layout.blocks[block + 1].begin : layout.elements;
    const int64_t limit = buckets.empty() ? options.first_bucket_bytes_max : options.bucket_bytes_max;
    if (layout.blocks[block].begin > begin && (end - begin) * element_bytes > limit) {
      buckets.push_back({begin, layout.blocks[block].begin});
      begin = layout.blocks[block].begin;
    }
  }
  if (layout.elements > begin) buckets.push_back({begin, layout.elements});
  return buckets;
}

}  // namespace dtrain
