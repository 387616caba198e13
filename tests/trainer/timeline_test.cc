// Goal: the timeline has every rank's spans on one clock, whatever their number and whatever a rank's own clock says.
// Method: ranks are threads over a channel of this test; the times that come out are compared with those that went in.
#include "trainer/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/trainer/thread_channel.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

TEST(Timeline, HasEverySpanOfEveryRankOnOneClock) {
  constexpr int kRanks = 3;
  constexpr int kSpans = 4000;  // more than one message takes
  Meeting meeting(kRanks);
  Value timeline;
  const TimePoint start = SystemClock().Now();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadChannel channel(meeting, rank);
      std::vector<TraceSpan> spans;
      for (int i = 0; i < (rank == 1 ? kSpans : 2); ++i) {
        const TimePoint begin = start + std::chrono::microseconds(10 * i + rank);
        spans.push_back({"bucket", TraceThread::kExchange, begin, begin + std::chrono::microseconds(7), i, rank});
      }
      const HostGroup hosts{.host_of = {"a", "a", "a"}, .local_rank = rank, .local_size = kRanks};
      const auto gathered = GatherTimeline(channel, hosts, spans, Deadline::In(std::chrono::seconds(20)));
      ASSERT_TRUE(gathered.ok()) << gathered.status();
      EXPECT_EQ(gathered->is_null(), rank != 0);
      if (rank == 0) timeline = *gathered;
    });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t spans = 0;
  std::vector<std::string> names;
  for (const Value& event : *timeline.At("traceEvents").if_list()) {
    if (event.At("name") == Value("process_name")) names.push_back(event.String("args.name", ""));
    if (event.At("ph") != Value("X")) continue;
    ++spans;
    const int64_t rank = event.Int("pid", -1), step = event.Int("args.step", -1);
    EXPECT_EQ(event.Int("args.bucket", -1), rank);
    EXPECT_NEAR(event.Double("ts", 0), static_cast<double>(10 * step + rank), 1);
    EXPECT_NEAR(event.Double("dur", 0), 7, 1);
  }
  EXPECT_EQ(spans, kSpans + 4);
  EXPECT_THAT(names, ::testing::ElementsAre("rank 0 on a", "rank 1 on a", "rank 2 on a"));
}

TEST(Timeline, WhatIsNoSpanIsRefused) {
  for (const char* said : {".nonsense", ".{}", ".[[1,2]]", ".[[\"bucket\",0,\"x\",2,3,4]]", ""}) {
    Meeting meeting(2);
    std::thread liar([&] {
      ThreadChannel channel(meeting, 1);
      EXPECT_TRUE(channel.AllGather("timeline", said, Deadline::In(std::chrono::seconds(5))).ok());
    });
    ThreadChannel channel(meeting, 0);
    const HostGroup hosts{.host_of = {"a", "a"}, .local_rank = 0, .local_size = 2};
    EXPECT_FALSE(GatherTimeline(channel, hosts, {}, Deadline::In(std::chrono::seconds(5))).ok()) << said;
    liar.join();
  }
}

TEST(Trace, KeepsNothingWhileItIsOffAndCountsWhatIsTooMuch) {
  Trace trace;
  { const TraceScope scope(&trace, "a", TraceThread::kCompute, 1); }
  EXPECT_TRUE(trace.Take().empty());
  trace.Start();
  { const TraceScope scope(&trace, "b", TraceThread::kExchange, 2, 3); }
  { const TraceScope scope(nullptr, "c", TraceThread::kExchange, 2, 3); }
  const auto spans = trace.Take();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].name, "b");
  EXPECT_EQ(spans[0].bucket, 3);
  EXPECT_LE(spans[0].begin, spans[0].end);
  for (size_t i = 0; i < Trace::kSpansMax + 5; ++i) trace.Add({});
  EXPECT_EQ(trace.dropped(), 5);
  EXPECT_EQ(trace.Take().size(), Trace::kSpansMax);
}

}  // namespace
}  // namespace dtrain
