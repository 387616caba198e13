// Goal: a configuration means the same steps, intervals and learning rates on every rank. Method: closed forms.
#include "trainer/job_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trainer/config/config.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

StatusOr<JobPlan> Plan(const std::string& more, int ranks = 1, int64_t samples = 1000) {
  const auto config = ParseConfig("model: {type: mlp}\ndata: {dataset: digits}\n" + more, "plan.yaml", {});
  if (!config.ok()) return config.status();
  return MakeJobPlan(config->values, ranks, samples);
}

TEST(JobPlan, CountsStepsOfEpochsByThePolicyForTheRemainder) {
  const auto pad = Plan("train: {duration: 3ep}\n");
  ASSERT_TRUE(pad.ok()) << pad.status();
  EXPECT_EQ(pad->steps_per_epoch, 16);  // 1000 / 64 rounded up
  EXPECT_EQ(pad->total_steps, 48);
  const auto steps = Plan("train: {duration: 7st}\neval: {every: 3st}\ncheckpoint: {every: [2st, 10min]}\n");
  ASSERT_TRUE(steps.ok()) << steps.status();
  EXPECT_EQ(steps->total_steps, 7);
  EXPECT_TRUE(steps->EvaluateAfter(3));
  EXPECT_FALSE(steps->EvaluateAfter(4));
  EXPECT_TRUE(steps->EvaluateAfter(7));  // the end
  EXPECT_TRUE(steps->SaveAfter(4));
  EXPECT_FALSE(steps->SaveAfter(5));
  ASSERT_EQ(steps->save.size(), 2u);
  EXPECT_EQ(steps->save[1].seconds, 600);
}

TEST(JobPlan, ATimeHasNoNumberOfSteps) {
  const auto plan = Plan("train: {duration: 2h}\n");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(plan->total_steps);
  EXPECT_EQ(plan->seconds_max, 7200);
  EXPECT_THAT(std::string(Plan("train: {duration: 2h}\noptim: {schedule: {type: cosine}}\n").status().message()), HasSubstr("cosine"));
}

TEST(JobPlan, LearningRateIsWarmUpThenHalfACosine) {
  const auto plan = Plan("train: {duration: 110st}\noptim: {type: sgd, lr: 0.2, schedule: {type: cosine, warmup: 10st}}\n");
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto& rate = plan->exchange.learning_rate;
  EXPECT_NEAR(rate(0, 1), 0.02, 1e-12);
  EXPECT_NEAR(rate(9, 1), 0.2, 1e-12);
  EXPECT_NEAR(rate(60, 1), 0.1, 1e-3);
  EXPECT_NEAR(rate(60, 0.5), 0.05, 1e-3);
  EXPECT_LT(rate(109, 1), 1e-3);
}

TEST(JobPlan, BatchThatDoesNotDivideIsRefusedWithTheNearest) {
  const auto config = ParseConfig("model: {type: mlp}\ndata: {dataset: digits, batch: {global: 64}}\n", "plan.yaml", {});
  ASSERT_TRUE(config.ok());
  const auto plan = MakeJobPlan(config->values, 3, 1000);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("63 or 66"));
  EXPECT_EQ(ExitCodeOf(plan.status(), ExitCode::kDone), ExitCode::kConfiguration);
}

}  // namespace
}  // namespace dtrain
