// Goal: the three numbers of a batch always fit the number of ranks, and what does not fit is refused with the nearest
// values that do. Method: every request over small numbers against a search through all plans; closed forms beside it.
#include "trainer/config/batch_equation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "base/leaf_tree.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int64_t kSmall = 13;  // each number is tried from 1 to 12, and absent

std::optional<int64_t> Optional(int64_t number) { return number == 0 ? std::nullopt : std::optional(number); }

// All (per_rank, accumulation) with ranks * per_rank * accumulation = global that agree with the request.
std::vector<BatchPlan> Search(const BatchRequest& request, int64_t ranks, int64_t global_max) {
  std::vector<BatchPlan> plans;
  const bool nothing = !request.global && !request.per_rank && !request.accumulation;
  for (int64_t per_rank = 1; per_rank <= global_max; ++per_rank) {
    for (int64_t accumulation = 1; ranks * per_rank * accumulation <= global_max; ++accumulation) {
      const int64_t global = ranks * per_rank * accumulation;
      if (request.global.value_or(nothing ? 64 : global) != global) continue;
      if (request.per_rank.value_or(per_rank) != per_rank) continue;
      // Accumulation is 1 unless it is given or the other two leave no choice.
      const bool is_free = !request.accumulation && !(request.global && request.per_rank);
      if (is_free ? accumulation != 1 : request.accumulation.value_or(accumulation) != accumulation) continue;
      plans.push_back(
          {.ranks = ranks, .global = global, .leaves = ranks * accumulation, .per_rank = per_rank, .accumulation = accumulation});
    }
  }
  return plans;
}

TEST(PlanBatch, AgreesWithASearchThroughAllPlans) {
  int plans_found = 0, refused = 0;
  for (int64_t ranks = 1; ranks < 7; ++ranks) {
    for (int64_t global = 0; global < 40; ++global) {
      for (int64_t per_rank = 0; per_rank < kSmall; ++per_rank) {
        for (int64_t accumulation = 0; accumulation < kSmall; ++accumulation) {
          const BatchRequest request = {.global = Optional(global), .per_rank = Optional(per_rank), .accumulation = Optional(accumulation)};
          const auto plan = PlanBatch(request, ranks);
          if (global == 0 && per_rank == 0 && accumulation != 0) {
            EXPECT_FALSE(plan.ok());  // says nothing about the number of samples
            continue;
          }
          const auto expected = Search(request, ranks, 6 * kSmall * kSmall);
          ASSERT_LE(expected.size(), 1u);
          ASSERT_EQ(plan.ok(), expected.size() == 1)
              << ranks << " " << global << " " << per_rank << " " << accumulation << " " << plan.status();
          if (plan.ok()) {
            EXPECT_EQ(*plan, expected[0]);
            EXPECT_EQ(plan->leaf_begin(plan->leaves), plan->global);
            ++plans_found;
          } else {
            EXPECT_EQ(ExitCodeOf(plan.status(), ExitCode::kUsage), ExitCode::kConfiguration);
            EXPECT_THAT(Message(plan.status()), StartsWith("data.batch.global: found "));
            ++refused;
          }
        }
      }
    }
  }
  EXPECT_GT(plans_found, 1000);
  EXPECT_GT(refused, 1000);
}

TEST(PlanBatch, NamesTheNearestBatchesThatDivide) {
  const auto status = [](const BatchRequest& request, int64_t ranks) { return Message(PlanBatch(request, ranks).status()); };
  EXPECT_EQ(status({.global = 64}, 3),
            "data.batch.global: found 64, which is no multiple of 3 ranks x 1 accumulation; nearest: global 63 or 66");
  EXPECT_EQ(status({.global = 64, .accumulation = 2}, 3),
            "data.batch.global: found 64, which is no multiple of 3 ranks x 2 accumulation; nearest: global 60 or 66");
  EXPECT_EQ(status({.global = 64, .per_rank = 10}, 2),
            "data.batch.global: found 64, which is no multiple of 2 ranks x 10 per rank; nearest: global 60 or 80");
  EXPECT_EQ(status({.global = 2}, 3), "data.batch.global: found 2, which is no multiple of 3 ranks x 1 accumulation; nearest: global 3");
  EXPECT_EQ(status({.global = 64, .per_rank = 16, .accumulation = 1}, 2),
            "data.batch.global: found 64, but 2 ranks x 16 per rank x 1 accumulation is 32; set one of the three to null");
}

TEST(PlanBatch, PrintsTheEquation) {
  EXPECT_EQ(PlanBatch({}, 2)->ToString(), "64 global = 2 ranks x 32 per rank x 1 accumulation");
  EXPECT_EQ(PlanBatch({.per_rank = 8, .accumulation = 3}, 1)->ToString(), "24 global = 1 rank x 8 per rank x 3 accumulation");
  EXPECT_EQ(PlanBatch({.reproducible = true, .global = 60}, 3)->ToString(), "60 global = 8 leaves of 7 or 8 over 3 ranks");
  EXPECT_EQ(PlanBatch({.reproducible = true}, 2)->ToString(), "64 global = 8 leaves of 8 over 2 ranks");
}

TEST(PlanBatch, ProductsThatDoNotFitAreRefusedNotWrapped) {
  constexpr int64_t kHuge = 2147483647;
  EXPECT_FALSE(PlanBatch({.per_rank = kHuge, .accumulation = kHuge}, 65536).ok());
  EXPECT_FALSE(PlanBatch({.global = 64, .per_rank = kHuge, .accumulation = kHuge}, 65536).ok());
  EXPECT_FALSE(PlanBatch({.global = 64, .accumulation = kHuge}, 65536).ok());
  EXPECT_TRUE(PlanBatch({.per_rank = int64_t{1} << 15, .accumulation = 2}, 32768).ok());
  EXPECT_FALSE(PlanBatch({.per_rank = int64_t{1} << 15, .accumulation = 3}, 32768).ok());
}

TEST(PlanBatch, ReproducibleLeavesDoNotDependOnTheNumberOfRanks) {
  for (int64_t leaves = 1; leaves <= 16; leaves *= 2) {
    for (int64_t global = 1; global < 70; ++global) {
      const BatchRequest request = {.reproducible = true, .global = global, .micro_batches = leaves};
      for (int ranks = 1; ranks <= 17; ++ranks) {
        const auto plan = PlanBatch(request, ranks);
        // The tree over the leaves is the judge of how many ranks can own one.
        ASSERT_EQ(plan.ok(), global >= leaves && AssignSubTrees(leaves, ranks).ok()) << global << " " << leaves << " " << ranks;
        if (!plan.ok()) continue;
        ASSERT_EQ(plan->leaves, leaves);
        std::set<int64_t> sizes;
        for (int64_t leaf = 0; leaf < leaves; ++leaf) sizes.insert(plan->leaf_begin(leaf + 1) - plan->leaf_begin(leaf));
        EXPECT_EQ(plan->leaf_begin(0), 0);
        EXPECT_EQ(plan->leaf_begin(leaves), global);
        EXPECT_GE(*sizes.begin(), 1);
        EXPECT_LE(*sizes.rbegin() - *sizes.begin(), 1);
      }
    }
  }
}

TEST(PlanBatch, ReproducibleRefusesWhatWouldDependOnTheNumberOfRanks) {
  const auto status = [](BatchRequest request, int64_t ranks) {
    request.reproducible = true;
    return Message(PlanBatch(request, ranks).status());
  };
  EXPECT_THAT(status({.per_rank = 32}, 2), StartsWith("data.batch.per_rank: found 32 with run.reproducible: true, expected null"));
  EXPECT_THAT(status({.global = 64, .accumulation = 2}, 2), StartsWith("data.batch.accumulation: found 2 with run.reproducible: true"));
  EXPECT_THAT(status({.micro_batches = 6}, 2), HasSubstr("expected a power of two; nearest: 4 or 8"));
  EXPECT_THAT(status({}, 9), StartsWith("data.batch.micro_batches: found 8 for 9 ranks, expected at least 16"));
  EXPECT_THAT(status({.global = 7}, 1), StartsWith("data.batch.micro_batches: found 8 for a global batch of 7, expected 4 or less"));
}

}  // namespace
}  // namespace dtrain
