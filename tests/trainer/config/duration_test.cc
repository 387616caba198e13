// Goal: a span means what a person reads, prints so that it reads back equal, and nothing absurd gets in.
// Method: closed forms for each unit, every refusal with its hint, and a round trip of random spans.
#include "trainer/config/duration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace dtrain {
namespace {

using ::testing::HasSubstr;
using Unit = TrainingSpan::Unit;

TEST(TrainingSpan, EachUnitMeansWhatItSays) {
  const std::pair<const char*, TrainingSpan> kCases[] = {
      {"10ep", {10, Unit::kEpochs}},      {"0.5ep", {0.5, Unit::kEpochs}},  {"5000st", {5000, Unit::kSteps}},
      {"2h", {7200, Unit::kSeconds}},     {"10min", {600, Unit::kSeconds}}, {"1.5min", {90, Unit::kSeconds}},
      {"90s", {90, Unit::kSeconds}},      {"500ms", {0.5, Unit::kSeconds}}, {"0st", {0, Unit::kSteps}},
      {"333ms", {0.333, Unit::kSeconds}},
  };
  for (const auto& [text, span] : kCases) {
    const auto parsed = ParseTrainingSpan(text);
    ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.status();
    EXPECT_EQ(*parsed, span) << text;
  }
}

TEST(TrainingSpan, WhatIsNoneIsRefusedWithAHint) {
  const std::pair<const char*, const char*> kCases[] = {
      {"10", "add the unit, for example 10ep"},
      {"10 ep", "write it as one word: 10ep"},
      {"10m", "did you mean 10min?"},
      {"3 epochs", "did you mean 3ep?"},
      {"1.5st", "steps are whole"},
      {"-1ep", "it cannot be negative"},
      {"-0ep", "it cannot be negative"},
      {"", "found ''"},
      {"ep", "found 'ep'"},
      {"infs", "found 'infs'"},
      {"nanep", "found 'nanep'"},
      {"1e400ep", "found '1e400ep'"},
      {"99999999999999999st", "longer"},
      {"10000000000ep", "longer"},
      {"1xyz", "expected a number with a unit"},
      {"0x10st", "found '0x10st'"},
      {"1,5ep", "found '1,5ep'"},
      {"10epst", "found '10epst'"},
  };
  for (const auto& [text, message] : kCases) {
    const auto parsed = ParseTrainingSpan(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(parsed.status()), HasSubstr(message)) << text;
  }
}

TEST(TrainingSpan, IsPrintedInItsLargestWholeUnit) {
  EXPECT_EQ(FormatTrainingSpan({7200, Unit::kSeconds}), "2h");
  EXPECT_EQ(FormatTrainingSpan({90, Unit::kSeconds}), "90s");
  EXPECT_EQ(FormatTrainingSpan({600, Unit::kSeconds}), "10min");
  EXPECT_EQ(FormatTrainingSpan({0.333, Unit::kSeconds}), "333ms");
  EXPECT_EQ(FormatTrainingSpan({0, Unit::kSeconds}), "0s");
  EXPECT_EQ(FormatTrainingSpan({0.1, Unit::kEpochs}), "0.1ep");
  EXPECT_EQ(FormatTrainingSpan({1e7, Unit::kSteps}), "10000000st");
}

TEST(TrainingSpan, ReadsBackEqualWhateverItsSize) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const auto unit = static_cast<Unit>(random() % 3);
    double amount = std::exp(std::uniform_real_distribution<double>(-20, 20)(random));
    if (unit == Unit::kSteps) amount = std::floor(amount);
    const TrainingSpan span = {amount, unit};
    const auto parsed = ParseTrainingSpan(FormatTrainingSpan(span));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ASSERT_EQ(*parsed, span) << FormatTrainingSpan(span);
  }
}

TEST(TrainingSpan, StepsOfEpochsAreRoundedButNeverToNone) {
  EXPECT_EQ(Steps({10, Unit::kEpochs}, 938), 9380);
  EXPECT_EQ(Steps({0.5, Unit::kEpochs}, 3), 2);
  EXPECT_EQ(Steps({0.001, Unit::kEpochs}, 10), 1);
  EXPECT_EQ(Steps({0, Unit::kEpochs}, 10), 0);
  EXPECT_EQ(Steps({5000, Unit::kSteps}, 7), 5000);
  EXPECT_EQ(Steps({1e9, Unit::kEpochs}, int64_t{1} << 62), int64_t{1} << 53);
}

}  // namespace
}  // namespace dtrain
