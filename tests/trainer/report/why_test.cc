// Goal: the sentences say what the numbers say. Method: timelines made up by hand, with known waits, laggards and overlap.
#include "trainer/report/why.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dtrain {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

Value Event(int64_t rank, int64_t thread, const char* name, int64_t step, double begin_ms, double end_ms) {
  return Value::Map{{"ph", "X"},
                    {"pid", rank},
                    {"tid", thread},
                    {"name", name},
                    {"ts", begin_ms * 1000},
                    {"dur", (end_ms - begin_ms) * 1000},
                    {"args", Value::Map{{"step", step}}}};
}

// Ten steps of 10 ms: rank 0 computes 6 ms, rank 1 8 ms; communication from 4 to 9, so 2 and 4 of 5 ms are hidden.
Value TwoRanks() {
  Value::List events;
  for (int64_t rank = 0; rank < 2; ++rank) {
    events.emplace_back(Value::Map{{"ph", "M"},
                                   {"pid", rank},
                                   {"tid", 0},
                                   {"name", "process_name"},
                                   {"args", Value::Map{{"name", rank == 0 ? "rank 0 on a" : "rank 1 on b"}}}});
    for (int64_t step = 0; step < 10; ++step) {
      const double at = 10.0 * static_cast<double>(step), computed = at + (rank == 0 ? 6 : 8);
      events.push_back(Event(rank, 0, "forward_backward", step, at, computed));
      events.push_back(Event(rank, 1, "bucket", step, at + 4, at + 9));
      events.push_back(Event(rank, 0, "wait_for_sums", step, computed, at + 9));
      events.push_back(Event(rank, 0, "update", step, at + 9, at + 10));
    }
  }
  return Value::Map{{"traceEvents", std::move(events)}};
}

TEST(Why, ReadsTheTimeline) {
  const auto facts = ReadTimeline(TwoRanks());
  ASSERT_TRUE(facts.ok()) << facts.status();
  ASSERT_EQ(facts->ranks.size(), 2u);
  EXPECT_EQ(facts->steps, 10);
  EXPECT_NEAR(facts->ranks[0].step_s, 0.010, 1e-9);
  EXPECT_NEAR(facts->ranks[0].compute_s, 0.006, 1e-9);
  EXPECT_NEAR(facts->ranks[0].wait_s, 0.003, 1e-9);
  EXPECT_NEAR(facts->ranks[0].hidden_s, 0.002, 1e-9);
  EXPECT_NEAR(facts->ranks[1].hidden_s, 0.004, 1e-9);
  EXPECT_NEAR(facts->ranks[1].communicating_s, 0.005, 1e-9);
  EXPECT_NEAR(facts->ranks[1].update_s, 0.001, 1e-9);
  EXPECT_EQ(facts->ranks[0].last, 0);
  EXPECT_EQ(facts->ranks[1].last, 10);
  EXPECT_NEAR(facts->lateness_s, 0.002, 1e-9);
}

TEST(Why, SaysWhoWaitedForWhomAndWhatEachKnobWouldGain) {
  const auto facts = ReadTimeline(TwoRanks());
  ASSERT_TRUE(facts.ok());
  const Value result = Value::Map{{"phases", Value::Map{{"data", 20.0}, {"forward_backward", 60.0}, {"exchange", 18.0}, {"save", 2.0}}}};
  const auto lines = ExplainRun(result, &*facts);
  EXPECT_THAT(lines.front(), HasSubstr("forward_backward 60 %, data 20 %, exchange 18 %, save 2 %"));
  EXPECT_THAT(lines, Contains(HasSubstr("Without its data time it would be at most 25 % faster: raise data.workers")));
  EXPECT_THAT(lines, Not(Contains(HasSubstr("Without its save time"))));  // not worth a line
  EXPECT_THAT(lines, Contains(HasSubstr("ready 2.00 ms apart, 20 % of a step; mostly rank 1 on b came last (10 of 10)")));
  EXPECT_THAT(lines, Contains(HasSubstr("rank 0 on a waited 30 %")));
  EXPECT_THAT(lines, Contains(HasSubstr("Communication took 5.00 ms a step, 40 % of it behind backward")));
}

TEST(Why, DoesWithoutATimelineAndWithoutAResult) {
  EXPECT_TRUE(ExplainRun(Value(), nullptr).empty());
  EXPECT_EQ(ExplainRun(Value::Map{{"phases", Value::Map{{"forward_backward", 60.0}}}}, nullptr).size(), 1u);
}

TEST(Why, AFileThatIsNoTimelineIsRefused) {
  EXPECT_FALSE(ReadTimeline(Value::Map{}).ok());
  EXPECT_FALSE(ReadTimeline(Value::Map{{"traceEvents", Value::List{Value::Map{{"pid", 1}}}}}).ok());
  EXPECT_FALSE(ReadTimeline(Value::Map{{"traceEvents", Value::List{Value::Map{{"pid", 1}, {"name", "x"}, {"ts", "soon"}}}}}).ok());
}

}  // namespace
}  // namespace dtrain
