// Goal: a deadline passes when it should, and no wait is so long that it wraps around into the past. Method: a manual
// clock and the extremes of the types.
#include "base/clock.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/sim/manual_clock.h"

namespace dtrain {
namespace {

TEST(Deadline, PassesExactlyAtItsTime) {
  ManualClock clock;
  const Deadline deadline = Deadline::In(std::chrono::seconds(3), clock);
  EXPECT_EQ(deadline.Left(clock), std::chrono::seconds(3));
  clock.Advance(std::chrono::seconds(3) - Duration(1));
  EXPECT_FALSE(deadline.Passed(clock));
  clock.Advance(Duration(1));
  EXPECT_TRUE(deadline.Passed(clock));
  clock.Advance(std::chrono::seconds(1));
  EXPECT_EQ(deadline.Left(clock), -std::chrono::seconds(1));
}

TEST(Deadline, WaitTooLongForTheClockNeverPasses) {
  const ManualClock clock;
  for (const Duration wait : {Duration::max(), Duration::max() - std::chrono::minutes(1)}) {
    const Deadline deadline = Deadline::In(wait, clock);
    EXPECT_FALSE(deadline.Passed(clock));
    EXPECT_GT(deadline.Left(clock), std::chrono::hours(24 * 365 * 200));
  }
}

TEST(Seconds, ConvertBackAndForthAndAreCutToTheRange) {
  EXPECT_EQ(FromSeconds(1.5), std::chrono::milliseconds(1500));
  EXPECT_EQ(FromSeconds(-0.25), -std::chrono::milliseconds(250));
  EXPECT_DOUBLE_EQ(Seconds(std::chrono::milliseconds(2500)), 2.5);
  EXPECT_EQ(FromSeconds(1e300), Duration::max());
  EXPECT_EQ(FromSeconds(std::numeric_limits<double>::infinity()), Duration::max());
  EXPECT_EQ(FromSeconds(-std::numeric_limits<double>::infinity()), Duration::min());
  EXPECT_EQ(FromSeconds(std::nan("")), Duration::zero());
}

TEST(SystemClock, GoesForwardAndKnowsTheYear) {
  const TimePoint before = SystemClock().Now();
  while (SystemClock().Now() == before) {
  }
  EXPECT_GT(SystemClock().Now(), before);
  EXPECT_GT(SystemClock().WallSeconds(), 1.7e9);  // 2023
}

}  // namespace
}  // namespace dtrain
