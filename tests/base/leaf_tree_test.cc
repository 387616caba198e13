// Goal: the sum over the leaves has the same bits however many ranks compute it. Method: float values whose sum depends
// on the order (that is checked), summed by every number of ranks and compared with one plain recursion over the tree.
#include "base/leaf_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/rng.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(AssignSubTrees, SplitsTheLargestAndOfEqualsTheLast) {
  EXPECT_THAT(*AssignSubTrees(8, 3), ElementsAre(SubTree{2, 0}, SubTree{1, 2}, SubTree{1, 3}));  // 4, 2, 2 leaves
  EXPECT_THAT(*AssignSubTrees(8, 1), ElementsAre(SubTree{3, 0}));
  EXPECT_THAT(*AssignSubTrees(8, 5), ElementsAre(SubTree{1, 0}, SubTree{1, 1}, SubTree{1, 2}, SubTree{0, 6}, SubTree{0, 7}));
  EXPECT_THAT(*AssignSubTrees(1, 1), ElementsAre(SubTree{0, 0}));
}

TEST(AssignSubTrees, SharesCoverTheLeavesInOrderAndDifferByAFactorOfTwoAtMost) {
  for (int64_t leaves = 1; leaves <= 64; leaves *= 2) {
    for (int ranks = 1; ranks <= leaves; ++ranks) {
      const auto owned = AssignSubTrees(leaves, ranks);
      ASSERT_TRUE(owned.ok()) << owned.status();
      ASSERT_EQ(owned->size(), static_cast<size_t>(ranks));
      int64_t next = 0, least = leaves, most = 0;
      for (const SubTree& tree : *owned) {
        ASSERT_EQ(tree.first_leaf(), next);
        next = tree.leaves().end();
        least = std::min(least, tree.leaf_count());
        most = std::max(most, tree.leaf_count());
      }
      EXPECT_EQ(next, leaves);
      EXPECT_LE(most, 2 * least) << leaves << " leaves, " << ranks << " ranks";
    }
  }
}

TEST(AssignSubTrees, WhatCannotBeSharedOutIsRefused) {
  for (const int64_t leaves : {0, -1, -8, 3, 6, 12})
    EXPECT_THAT(Message(AssignSubTrees(leaves, 1).status()), HasSubstr("expected a power of two"));
  EXPECT_THAT(Message(AssignSubTrees(8, 9).status()), HasSubstr("share out 8 leaves among 9 ranks: expected 1 to 8 ranks"));
  EXPECT_EQ(AssignSubTrees(8, 0).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(AssignSubTrees(8, -1).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(AssignSubTrees(INT64_MIN, 1).status().code(), StatusCode::kInvalidArgument);
}

// The definition: halves of halves.
float SumByRecursion(const std::vector<float>& leaves, int64_t first, int64_t count) {
  if (count == 1) return leaves[first];
  return SumByRecursion(leaves, first, count / 2) + SumByRecursion(leaves, first + count / 2, count / 2);
}

float Evaluate(const TreeSumPlan& plan, const std::vector<float>& operands) {
  std::vector<float> stack;
  for (size_t i = 0; i < operands.size(); ++i) {
    stack.push_back(operands[i]);
    for (int merge = 0; merge < plan.merges_after[i]; ++merge) {
      const float right = stack.back();
      stack.pop_back();
      stack.back() += right;
    }
  }
  EXPECT_EQ(stack.size(), 1u);
  return stack.back();
}

std::vector<float> OrderSensitiveLeaves(int64_t count, uint64_t seed) {
  Rng rng(seed, RngPurpose::kSynthetic);
  std::vector<float> leaves(count);
  for (float& leaf : leaves) leaf = static_cast<float>(std::ldexp(rng.Normal(), static_cast<int>(rng.Below(20))));
  return leaves;
}

TEST(TreeSum, HasTheSameBitsForEveryNumberOfRanks) {
  int order_mattered = 0;
  for (int64_t leaves = 1; leaves <= 32; leaves *= 2) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const auto values = OrderSensitiveLeaves(leaves, seed);
      const float expected = SumByRecursion(values, 0, leaves);
      order_mattered += std::accumulate(values.begin(), values.end(), 0.0f) != expected ? 1 : 0;
      for (int ranks = 1; ranks <= leaves; ++ranks) {
        const auto shares = ShareLeaves(leaves, ranks, /*reproducible=*/true);
        ASSERT_TRUE(shares.ok()) << shares.status();
        std::vector<float> of_rank;
        for (const LeafRange& share : shares->of_rank) {
          const std::vector<float> own(values.begin() + share.first, values.begin() + share.end());
          of_rank.push_back(Evaluate(PlanTreeSum(share.count), own));
        }
        const float sum = Evaluate(shares->sum_over_ranks, of_rank);
        ASSERT_EQ(std::bit_cast<uint32_t>(sum), std::bit_cast<uint32_t>(expected)) << leaves << " leaves, " << ranks << " ranks";
      }
    }
  }
  EXPECT_GT(order_mattered, 30);  // else this test proves nothing
}

// Any count: split at the largest power of two below it.
double SumByDefinition(const std::vector<double>& values, int64_t lo, int64_t hi) {
  if (hi - lo == 1) return values[lo];
  const int64_t middle = lo + static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(hi - lo - 1)));
  return SumByDefinition(values, lo, middle) + SumByDefinition(values, middle, hi);
}

TEST(TreeSum, OfAnyCountFollowsTheDocumentedSplit) {
  for (int64_t count = 1; count <= 200; ++count) {
    const auto leaves = OrderSensitiveLeaves(count, 1);
    const std::vector<double> values(leaves.begin(), leaves.end());
    EXPECT_EQ(TreeSum(PlanTreeSum(count), values), SumByDefinition(values, 0, count)) << count;
  }
}

TEST(ShareLeaves, OtherwiseSharesAreEqualAndACountThatDoesNotDivideIsRefused) {
  const auto shares = ShareLeaves(6, 3, /*reproducible=*/false);
  ASSERT_TRUE(shares.ok()) << shares.status();
  EXPECT_THAT(shares->of_rank, ElementsAre(LeafRange{0, 2}, LeafRange{2, 2}, LeafRange{4, 2}));
  EXPECT_EQ(TreeSum(shares->sum_over_ranks, {1, 2, 4}), 7);
  for (const int ranks : {-1, 0, 4, 7, 12}) {
    EXPECT_EQ(ShareLeaves(6, ranks, false).status().code(), StatusCode::kInvalidArgument) << ranks;
  }
}

}  // namespace
}  // namespace dtrain
