// Goal: the fit finds the costs that made the measurements, and a ring of another size costs what its steps and bytes say.
// Method: closed forms.
#include "base/cost_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace dtrain {
namespace {

TEST(FitCost, FindsWhatMadeTheMeasurements) {
  const LinearCost truth{.start_s = 5e-6, .bytes_per_s = 4e9};
  std::vector<Measurement> exact, noisy;
  for (const double bytes : {4096.0, 65536.0, 1e6, 25e6, 64e6}) {
    exact.push_back({bytes, truth.Seconds(bytes)});
    noisy.push_back({bytes, truth.Seconds(bytes) * (1 + 0.05 * std::sin(bytes))});
  }
  EXPECT_NEAR(FitCost(exact).start_s, truth.start_s, 1e-12);
  EXPECT_NEAR(FitCost(exact).bytes_per_s, truth.bytes_per_s, 1);
  EXPECT_NEAR(FitCost(noisy).start_s, truth.start_s, 0.1 * truth.start_s);
  EXPECT_NEAR(FitCost(noisy).bytes_per_s, truth.bytes_per_s, 0.1 * truth.bytes_per_s);
}

TEST(FitCost, NeverIsNegative) {
  const std::vector<Measurement> superlinear = {{1000, 1e-6}, {2000, 5e-6}, {4000, 30e-6}};
  EXPECT_EQ(FitCost(superlinear).start_s, 0);
  EXPECT_GT(FitCost(superlinear).bytes_per_s, 0);
  const std::vector<Measurement> falling = {{1000, 5e-6}, {2000, 4e-6}};
  EXPECT_GT(FitCost(falling).start_s, 0);
  EXPECT_EQ(FitCost(falling).bytes_per_s, 0);
  EXPECT_EQ(FitCost({}).Seconds(1e9), 0);
  EXPECT_EQ(FitCost(std::vector<Measurement>{{1000, 1e-6}, {1000, 2e-6}}).bytes_per_s, 0);  // one size says nothing
}

TEST(ForRanks, CountsTheStepsAndBytesOfARing) {
  const double hop_s = 3e-6, link = 1e9, bytes = 12e6;
  const auto ring = [&](double n) { return 2 * (n - 1) * hop_s + 2 * (n - 1) / n * bytes / link; };
  const LinearCost two{.start_s = 2 * hop_s, .bytes_per_s = link};  // 2 ranks send the bytes once
  for (const int ranks : {2, 3, 4, 16}) EXPECT_NEAR(ForRanks(two, 2, ranks).Seconds(bytes), ring(ranks), 1e-12);
  EXPECT_NEAR(ForRanks(ForRanks(two, 2, 4), 4, 3).Seconds(bytes), ring(3), 1e-12);
}

TEST(StepSeconds, IsTheLongerOfTheTwoWithItsLead) {
  EXPECT_DOUBLE_EQ(StepSeconds(3, 2.0 / 3, 1, 4, false), 4);
  // Backward 2 s in 4 buckets: the exchange starts at 1.5 s and takes 1 s, so all but the last bucket is hidden.
  EXPECT_DOUBLE_EQ(StepSeconds(3, 2.0 / 3, 1, 4, true), 3.25);
  EXPECT_DOUBLE_EQ(StepSeconds(3, 2.0 / 3, 10, 4, true), 11.5);
}

}  // namespace
}  // namespace dtrain
