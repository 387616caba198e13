// Goal: each (lease, chunk) counts once, and memory is one number where there are no gaps. Method: random orders with
// repeats against a set.
#include "paramserver/work_log.h"

#include <gtest/gtest.h>

#include <set>

#include "base/rng.h"
#include "paramserver/limits.h"

namespace dtrain::ps {
namespace {

TEST(WorkLog, KnowsExactlyWhatWasAppliedInWhateverOrder) {
  constexpr int kChunks = 3;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Rng rng(seed, RngPurpose::kSynthetic);
    WorkLog log(kChunks);
    std::set<std::tuple<int64_t, int64_t, int>> applied;
    for (int i = 0; i < 400; ++i) {
      const LeaseName lease{static_cast<int64_t>(rng.Below(2)), static_cast<int64_t>(rng.Below(30))};
      const int chunk = static_cast<int>(rng.Below(kChunks));
      ASSERT_EQ(log.Applied(lease, chunk), applied.contains({lease.epoch, lease.number, chunk})) << seed;
      if (!log.Applied(lease, chunk)) {
        ASSERT_TRUE(log.MayApply(lease).ok());
        log.MarkApplied(lease, chunk);
        applied.insert({lease.epoch, lease.number, chunk});
      }
      if (i % 50 == 0) {
        Encoder out;
        log.Encode(out);
        Decoder in(out.bytes());
        WorkLog back(0);
        ASSERT_TRUE(WorkLog::Decode(in, kChunks, &back) && in.Done());
        ASSERT_TRUE(back == log);
      }
    }
  }
}

TEST(WorkLog, AFinishedRunOfLeasesIsOneNumber) {
  WorkLog log(2);
  for (int64_t lease = 0; lease < 1'000; ++lease) {
    log.MarkApplied({0, lease}, 1);
    log.MarkApplied({0, lease}, 0);
  }
  EXPECT_EQ(log.closed_below(0), 1'000);
  Encoder out;
  log.Encode(out);
  EXPECT_LE(out.bytes().size(), 64u);
}

TEST(WorkLog, ALeaseFarAheadOfAGapIsRefusedAndAnOldEpochIsDone) {
  WorkLog log(1);
  EXPECT_TRUE(log.MayApply({0, kLeasesOpenMax - 1}).ok());
  EXPECT_EQ(log.MayApply({0, kLeasesOpenMax}).code(), StatusCode::kResourceExhausted);
  log.MarkApplied({0, 0}, 0);
  log.MarkApplied({1, 0}, 0);
  EXPECT_FALSE(log.Applied({0, 1}, 0));
  log.MarkApplied({2, 0}, 0);
  EXPECT_TRUE(log.Applied({0, 1}, 0));
}

}  // namespace
}  // namespace dtrain::ps
