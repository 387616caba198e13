// Goal: metrics do not depend on how samples were shared out; early stop counts evaluations without gain.
// Method: random losses summed in random orders and groupings must agree bit for bit.
#include "trainer/evaluation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"

namespace dtrain {
namespace {

TEST(ExactSum, DoesNotDependOnOrderOrGrouping) {
  Rng rng(1, RngPurpose::kSynthetic);
  std::vector<double> values(1000);
  for (double& value : values) value = rng.Normal() * std::pow(10.0, static_cast<double>(rng.Below(6)));
  ExactSum expected;
  long double plain = 0;
  for (const double value : values) {
    expected.Add(value);
    plain += value;
  }
  EXPECT_NEAR(expected.value(), static_cast<double>(plain), 1e-6);
  for (int repeat = 0; repeat < 20; ++repeat) {
    for (size_t i = values.size() - 1; i > 0; --i) std::swap(values[i], values[rng.Below(i + 1)]);
    ExactSum left, right;
    const size_t cut = rng.Below(values.size());
    for (size_t i = 0; i < values.size(); ++i) (i < cut ? left : right).Add(values[i]);
    left.Add(right);
    ASSERT_EQ(left.value(), expected.value());
  }
}

TEST(ExactSum, WhatIsNotFiniteStaysKnown) {
  for (const double bad : {std::nan(""), double{INFINITY}, 1e300}) {
    ExactSum sum;
    sum.Add(1);
    sum.Add(bad);
    sum.Add(1);
    EXPECT_TRUE(std::isnan(sum.value()));
  }
}

TEST(EvaluationTotals, TravelAndAddUp) {
  EvaluationTotals a, b;
  a.loss.Add(-3.25);
  a.weight.Add(2);
  a.correct = 1;
  a.samples = 2;
  b.loss.Add(7.5);
  b.weight.Add(2);
  b.samples = 2;
  auto read = EvaluationTotals::Decode(a.Encode());
  ASSERT_TRUE(read.ok());
  read->Add(b);
  const Value metrics = read->Metrics("valid", true);
  EXPECT_EQ(metrics.Double("valid_loss", 0), 4.25 / 4);
  EXPECT_EQ(metrics.Double("valid_accuracy", 0), 0.25);
  const std::string bytes = a.Encode();
  for (size_t length = 0; length < bytes.size(); ++length) EXPECT_FALSE(EvaluationTotals::Decode(bytes.substr(0, length)).ok());
  EXPECT_FALSE(EvaluationTotals::Decode(bytes + "x").ok());
}

TEST(EarlyStop, StopsAfterPatienceWithoutGainAndGoesOnFromWhatWasSaved) {
  const auto metrics = [](double accuracy) {
    Value value = Value::Map();
    value.Set("valid_accuracy", accuracy);
    return value;
  };
  EarlyStop rule{.metric = "valid_accuracy", .patience = 2};
  EXPECT_FALSE(rule.Take(metrics(0.5)));
  EXPECT_FALSE(rule.Take(metrics(0.4)));
  EarlyStop resumed{.metric = "valid_accuracy", .patience = 2};
  resumed.Restore(rule.Save());
  EXPECT_TRUE(resumed.Take(metrics(0.5)));  // equal is no gain
  EXPECT_FALSE(rule.Take(metrics(0.6)));
  EXPECT_FALSE(rule.Take(metrics(std::nan(""))));
  EXPECT_TRUE(rule.Take(metrics(0.55)));
  EarlyStop smaller{.metric = "valid_accuracy", .larger_is_better = false, .patience = 1};
  EXPECT_FALSE(smaller.Take(metrics(0.5)));
  EXPECT_FALSE(smaller.Take(metrics(0.4)));
  EXPECT_TRUE(smaller.Take(metrics(0.45)));
  EarlyStop never;
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(never.Take(metrics(0)));
}

}  // namespace
}  // namespace dtrain
