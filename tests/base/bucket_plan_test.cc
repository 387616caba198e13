// Goal: whatever the sizes, no gradient is lost or sent twice. Method: buckets so small that a handful of tensors takes
// every path a real model takes; then random models checked for the properties that the header promises.
#include "base/bucket_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

FlatLayout Layout(const std::vector<int64_t>& tensor_elements) {
  std::vector<TensorInfo> tensors;
  for (const int64_t elements : tensor_elements) tensors.push_back({"t", DType::kF32, {elements}});
  return MakeFlatLayout(tensors);
}

constexpr int64_t kBlockBytes = kBlockElements * 4;

TEST(PlanBuckets, TensorLargerThanABucketIsCutAtABlock) {
  const auto plan = PlanBuckets(Layout({4096, 10 * 4096}), {.bucket_bytes_max = 8 * kBlockBytes, .first_bucket_bytes_max = kBlockBytes});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(*plan, ElementsAre(Bucket{0, 4096}, Bucket{4096, 9 * 4096}, Bucket{9 * 4096, 11 * 4096}));
}

TEST(PlanBuckets, SmallTensorsShareABucketUpToItsLimit) {
  const auto plan = PlanBuckets(Layout({16, 16, 16, 16, 16}), {.bucket_bytes_max = 2 * 16 * 4, .first_bucket_bytes_max = 16 * 4});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(*plan, ElementsAre(Bucket{0, 16}, Bucket{16, 48}, Bucket{48, 80}));
}

TEST(PlanBuckets, LimitBelowABlockGivesOneBlockABucket) {
  const auto plan = PlanBuckets(Layout({3, 5000}), {.bucket_bytes_max = 1, .first_bucket_bytes_max = 1});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(*plan, ElementsAre(Bucket{0, 16}, Bucket{16, 4112}, Bucket{4112, 5024}));
}

TEST(PlanBuckets, ModelWithoutTensorsHasNoBuckets) { EXPECT_THAT(*PlanBuckets(Layout({}), {}), IsEmpty()); }

TEST(PlanBuckets, LimitThatIsNotPositiveIsRefused) {
  for (const int64_t limit : {int64_t{0}, int64_t{-1}, INT64_MIN}) {
    EXPECT_THAT(Message(PlanBuckets(Layout({1}), {.bucket_bytes_max = limit}).status()), HasSubstr(Cat("a limit of ", limit, " bytes")));
    EXPECT_EQ(PlanBuckets(Layout({1}), {.first_bucket_bytes_max = limit}).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(PlanBuckets, BucketsCoverEveryElementOnceCutAtBlocksWithinTheLimit) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Rng rng(seed, RngPurpose::kSynthetic);
    std::vector<int64_t> sizes(1 + rng.Below(10));
    for (int64_t& size : sizes) size = static_cast<int64_t>(rng.Below(uint64_t{1} << rng.Below(18)));
    const FlatLayout layout = Layout(sizes);
    const BucketOptions options = {.bucket_bytes_max = 1 + static_cast<int64_t>(rng.Below(20 * kBlockBytes)),
                                   .first_bucket_bytes_max = 1 + static_cast<int64_t>(rng.Below(4 * kBlockBytes))};
    const auto plan = PlanBuckets(layout, options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    int64_t next = 0;
    for (size_t i = 0; i < plan->size(); ++i) {
      const Bucket& bucket = (*plan)[i];
      ASSERT_EQ(bucket.begin, next);
      ASSERT_GT(bucket.end, bucket.begin);
      next = bucket.end;
      std::vector<int64_t> inside;
      for (const ElementRange& block : layout.blocks) {
        ASSERT_FALSE(block.begin < bucket.end && block.end > bucket.end) << "seed " << seed << ": a block lies in two buckets";
        if (block.begin >= bucket.begin && block.begin < bucket.end) inside.push_back(block.begin);
      }
      const int64_t limit = i == 0 ? options.first_bucket_bytes_max : options.bucket_bytes_max;
      ASSERT_TRUE(bucket.size() * 4 <= limit || inside.size() == 1) << "seed " << seed << ", bucket " << i;
    }
    ASSERT_EQ(next, layout.elements);
  }
}

}  // namespace
}  // namespace dtrain
