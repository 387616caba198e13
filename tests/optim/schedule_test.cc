// Goal: a learning rate is exactly the function that its options describe, and clipping is torch's. Method: closed forms
// at the places where pieces meet, and a product of one-step ratios as a second way to the same curve.
#include "optim/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "optim/clip.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

TEST(LearningRate, ConstantIsTheBaseTimesTheFactor) {
  for (const Step step : {0, 1, 1000000}) EXPECT_EQ(LearningRate({}, 0.3, step, 1), 0.3);
  EXPECT_EQ(LearningRate({}, 0.5, 7, 0.25), 0.125);
}

TEST(LearningRate, WarmUpRisesLinearlyAndEndsAtTheBase) {
  for (const ScheduleType type : {ScheduleType::kConstant, ScheduleType::kStep, ScheduleType::kCosine}) {
    const ScheduleOptions options{.type = type, .warmup_steps = 4, .step_size_steps = 10, .total_steps = 100};
    EXPECT_DOUBLE_EQ(LearningRate(options, 2, 0, 1), 0.5);
    EXPECT_DOUBLE_EQ(LearningRate(options, 2, 1, 1), 1);
    EXPECT_DOUBLE_EQ(LearningRate(options, 2, 2, 0.5), 0.75);
    EXPECT_DOUBLE_EQ(LearningRate(options, 2, 3, 1), 2);
    EXPECT_DOUBLE_EQ(LearningRate(options, 2, 4, 1), 2);  // the schedule's own first step
  }
}

TEST(LearningRate, StepDropsEverySizeAfterWarmUp) {
  const ScheduleOptions options{.type = ScheduleType::kStep, .warmup_steps = 3, .step_size_steps = 5, .gamma = 0.5};
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 7, 1), 1);
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 8, 1), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 12, 1), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 13, 1), 0.25);
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 13, 3), 0.75);
}

TEST(LearningRate, AStepSizeBelowOneStepCountsAsOne) {
  const ScheduleOptions options{.type = ScheduleType::kStep, .step_size_steps = 0, .gamma = 0.5};
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 3, 1), 0.125);
}

TEST(LearningRate, CosineGoesFromTheBaseToTheMinimumAndStays) {
  const ScheduleOptions options{.type = ScheduleType::kCosine, .warmup_steps = 10, .total_steps = 110, .min_factor = 0.2};
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 10, 1), 1);
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 60, 1), 0.6);                               // half way between 1 and 0.2
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 35, 1), 0.2 + 0.4 * (1 + std::sqrt(0.5)));  // a quarter: cos(pi / 4)
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 110, 1), 0.2);
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 5000, 1), 0.2);
  // torch's CosineAnnealingLR goes from one step to the next by a ratio; the curve is the same.
  double rate = 1;
  for (Step t = 1; t < 100; ++t) {
    rate = (1 + std::cos(M_PI * t / 100)) / (1 + std::cos(M_PI * (t - 1) / 100)) * (rate - 0.2) + 0.2;
    EXPECT_NEAR(LearningRate(options, 1, 10 + t, 1), rate, 1e-12);
  }
}

TEST(LearningRate, CosineWithNothingAfterWarmUpEndsAtTheMinimum) {
  const ScheduleOptions options{.type = ScheduleType::kCosine, .warmup_steps = 10, .total_steps = 10, .min_factor = 0.5};
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 9, 1), 1);
  EXPECT_DOUBLE_EQ(LearningRate(options, 1, 10, 1), 0.5);
}

TEST(ParseScheduleType, KnowsEveryNameAndRefusesOthers) {
  EXPECT_EQ(ParseScheduleType("constant").value(), ScheduleType::kConstant);
  EXPECT_EQ(ParseScheduleType("step").value(), ScheduleType::kStep);
  EXPECT_EQ(ParseScheduleType("cosine").value(), ScheduleType::kCosine);
  const auto wrong = ParseScheduleType("linear");
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(wrong.status()), HasSubstr("found 'linear', expected constant, step or cosine"));
}

TEST(ClipCoefficient, ShortensOnlyWhatIsTooLong) {
  EXPECT_EQ(ClipCoefficient(0, 1), 1);
  EXPECT_EQ(ClipCoefficient(0.5, 1), 1);
  EXPECT_DOUBLE_EQ(ClipCoefficient(4, 1), 1 / 4.000001);
  EXPECT_DOUBLE_EQ(ClipCoefficient(1, 1), 1 / 1.000001);  // torch's 1e-6 shows at the limit itself
  EXPECT_EQ(ClipCoefficient(std::numeric_limits<double>::infinity(), 1), 0);
  EXPECT_TRUE(std::isnan(ClipCoefficient(std::numeric_limits<double>::quiet_NaN(), 1)));
}

}  // namespace
}  // namespace dtrain
