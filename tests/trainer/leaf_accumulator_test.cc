// Goal: a rank's leaves are added in tree order, so that any split of the leaves over ranks gives the same bits.
// Method: against a recursive reference over random floats, whose sums really do depend on the order.
#include "trainer/leaf_accumulator.h"

#include <gtest/gtest.h>

#include <set>

#include "base/rng.h"

namespace dtrain {
namespace {

float Tree(const std::vector<float>& leaves, size_t begin, size_t end) {
  if (end - begin == 1) return leaves[begin];
  const size_t middle = (begin + end) / 2;
  return Tree(leaves, begin, middle) + Tree(leaves, middle, end);
}

constexpr int64_t kWidth = kBlockElements + 3;  // more than a block, and a rest

// The sum of `leaves`, each one value over the whole width, handed over in two ranges, the last one first.
float Accumulated(const std::vector<float>& leaves, LeafOrder order, LeafAccumulator& accumulator, const std::vector<float>& sums) {
  accumulator.Start(static_cast<int64_t>(leaves.size()), order);
  for (size_t i = 0; i < leaves.size(); ++i) {
    accumulator.StartLeaf();
    EXPECT_EQ(accumulator.last_leaf(), i + 1 == leaves.size());
    const std::vector<float> values(kWidth, leaves[i]);
    for (const ElementRange range : {ElementRange{10, kWidth}, ElementRange{0, 10}}) {
      if (leaves[i] == 0) {
        accumulator.AddZeros(range);
      } else {
        accumulator.Add(range, std::span(values).subspan(range.begin, range.size()));
      }
    }
  }
  EXPECT_EQ(std::set<float>(sums.begin(), sums.end()).size(), 1u);
  return sums[0];
}

TEST(LeafAccumulator, AddsInTreeOrder) {
  Rng rng(3, RngPurpose::kSynthetic);
  int differs_from_running_sum = 0;
  for (const int64_t count : {1, 2, 4, 8, 16, 32}) {
    std::vector<float> sums(kWidth, 5);  // what was there does not matter
    LeafAccumulator accumulator(sums);   // its memory is used again
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::vector<float> leaves(count);
      for (float& leaf : leaves) leaf = rng.Below(8) == 0 ? 0 : static_cast<float>(rng.Normal());
      const float found = Accumulated(leaves, LeafOrder::kTree, accumulator, sums);
      ASSERT_EQ(found, Tree(leaves, 0, leaves.size())) << count;
      float running = 0;
      for (const float leaf : leaves) running += leaf;
      if (running != found) ++differs_from_running_sum;
    }
  }
  EXPECT_GT(differs_from_running_sum, 20);  // else this test could not tell one order from another
}

TEST(LeafAccumulator, AddsInSequence) {
  Rng rng(3, RngPurpose::kSynthetic);
  std::vector<float> sums(kWidth, 5);
  LeafAccumulator accumulator(sums);
  for (const int64_t count : {1, 3, 5}) {
    std::vector<float> leaves(count);
    for (float& leaf : leaves) leaf = static_cast<float>(rng.Normal());
    float running = leaves[0];
    for (size_t i = 1; i < leaves.size(); ++i) running += leaves[i];
    EXPECT_EQ(Accumulated(leaves, LeafOrder::kSequence, accumulator, sums), running);
  }
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
