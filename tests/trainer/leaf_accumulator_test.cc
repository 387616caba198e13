// Goal: a rank's leaves are added in tree order, so that any split of the leaves over ranks gives the same bits.
// Method: against a recursive reference over random floats, whose sums really do depend on the order.
#include "trainer/leaf_accumulator.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace dtrain {
namespace {

float Tree(const std::vector<float>& leaves, size_t begin, size_t end) {
  if (end - begin == 1) return leaves[begin];
  const size_t middle = (begin + end) / 2;
  return Tree(leaves, begin, middle) + Tree(leaves, middle, end);
}

TEST(LeafAccumulator, AddsInTreeOrder) {
  Rng rng(3, RngPurpose::kSynthetic);
  int differs_from_running_sum = 0;
  for (const int64_t count : {1, 2, 4, 8, 16}) {
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::vector<float> leaves(count);
      for (float& leaf : leaves) leaf = static_cast<float>(rng.Normal());
      std::vector<float> sum(1, 0.0f);
      LeafAccumulator accumulator(sum);
      for (int step = 0; step < 2; ++step) {  // its memory is used again
        sum[0] = 0;
        accumulator.Start(count);
        for (const float leaf : leaves) {
          sum[0] += leaf;  // as backward does
          accumulator.LeafDone();
        }
        ASSERT_EQ(sum[0], Tree(leaves, 0, leaves.size())) << count;
      }
      float running = 0;
      for (const float leaf : leaves) running += leaf;
      if (running != sum[0]) ++differs_from_running_sum;
    }
  }
  EXPECT_GT(differs_from_running_sum, 20);  // else this test could not tell one order from another
}

TEST(LeafScalarSum, IsTheSameTree) {
  Rng rng(4, RngPurpose::kSynthetic);
  for (const size_t count : {1u, 2u, 8u, 32u}) {
    std::vector<float> leaves(count);
    LeafScalarSum sum;
    sum.Start();
    for (float& leaf : leaves) {
      leaf = static_cast<float>(rng.Below(1000));
      sum.Add(leaf);
    }
    EXPECT_EQ(sum.total(), Tree(leaves, 0, count));
  }
}

}  // namespace
}  // namespace dtrain
