// Goal: metrics.jsonl holds each step once, whatever crashes, resumes and roll backs there were. Method: files as a crash
// leaves them, a disk that loses power at each operation of a rewrite, a disk that is full for a while.
#include "trainer/report/metrics_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/report/sample_events.h"

namespace dtrain {
namespace {

constexpr const char* kPath = "run/metrics.jsonl";

Value Line(const char* event, int64_t step, double loss = 0.5) {
  return Value(Value::Map{{"event", event}, {"step", step}, {"loss", loss}});
}

std::string Text(std::initializer_list<Value> lines) {
  std::string text;
  for (const Value& line : lines) text += line.ToJson() + "\n";
  return text;
}

class MetricsLogTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(storage_.CreateDirectories("run").ok());
    ASSERT_TRUE(storage_.SyncDirectory(".").ok());
  }
  MetricsLog Resume(Step step) {
    auto log = MetricsLog::Open(storage_, kPath, step, false);
    EXPECT_TRUE(log.ok()) << log.status();
    return *std::move(log);
  }
  std::string Contents() const { return TextOf(storage_, kPath); }

  SimStorage storage_;
};

TEST_F(MetricsLogTest, EachLineIsThereAsSoonAsItIsAppended) {
  auto log = MetricsLog::Open(storage_, kPath, 0, true);
  ASSERT_TRUE(log.ok());
  ASSERT_TRUE(log->Append(Line("progress", 10)).ok());
  EXPECT_EQ(Contents(), "{\"event\": \"progress\", \"loss\": 0.5, \"step\": 10}\n");
  ASSERT_TRUE(log->Append(Line("evaluation", 10)).ok());
  EXPECT_EQ(Contents(), Text({Line("progress", 10), Line("evaluation", 10)}));
}

TEST_F(MetricsLogTest, AFreshRunForgetsTheOldOne) {
  PutText(storage_, kPath, Text({Line("progress", 10)}));
  ASSERT_TRUE(MetricsLog::Open(storage_, kPath, 0, true).ok());
  EXPECT_EQ(Contents(), "");
}

TEST_F(MetricsLogTest, AResumeDropsTheStepsThatComeAgain) {
  PutText(storage_, kPath,
          Text({Line("progress", 10), Line("evaluation", 20), Line("progress", 20), Line("checkpoint", 20), Line("progress", 30)}));
  MetricsLog log = Resume(20);
  EXPECT_EQ(Contents(), Text({Line("progress", 10), Line("evaluation", 20), Line("progress", 20), Line("checkpoint", 20)}));
  ASSERT_TRUE(log.Append(Line("progress", 30, 0.25)).ok());
  EXPECT_EQ(Contents(),
            Text({Line("progress", 10), Line("evaluation", 20), Line("progress", 20), Line("checkpoint", 20), Line("progress", 30, 0.25)}));
}

TEST_F(MetricsLogTest, ATornLastLineIsCutWhereverItWasTorn) {
  const std::string whole = Text({Line("progress", 10), Line("progress", 20)});
  const std::string kept = Text({Line("progress", 10)});
  for (size_t bytes = kept.size(); bytes < whole.size(); ++bytes) {
    PutText(storage_, kPath, whole.substr(0, bytes));
    MetricsLog log = Resume(100);
    ASSERT_EQ(Contents(), kept) << bytes;
    ASSERT_TRUE(log.Append(Line("progress", 20)).ok());
    ASSERT_EQ(Contents(), whole) << bytes;
  }
}

TEST_F(MetricsLogTest, LinesThatAreNoMetricsGo) {
  PutText(storage_, kPath,
          Text({Line("progress", 10)}) + std::string("\0\0\0\n", 4) + "[1, 2]\n{\"step\": \"ten\"}\n" + Text({Line("progress", 20)}));
  Resume(100);
  EXPECT_EQ(Contents(), Text({Line("progress", 10), Line("progress", 20)}));
}

TEST_F(MetricsLogTest, ARollBackTakesTheUndoneStepsAway) {
  MetricsLog log = Resume(0);
  for (const int64_t step : {10, 20, 30}) ASSERT_TRUE(log.Append(Line("progress", step)).ok());
  ASSERT_TRUE(log.Append(Line("evaluation", 30)).ok());
  ASSERT_TRUE(log.Append(Line("progress", 20, 0.25)).ok());
  EXPECT_EQ(Contents(), Text({Line("progress", 10), Line("progress", 20, 0.25)}));
}

TEST_F(MetricsLogTest, ACheckpointThatIsWrittenLateDropsNothing) {
  MetricsLog log = Resume(0);
  for (const int64_t step : {10, 20, 30}) ASSERT_TRUE(log.Append(Line("progress", step)).ok());
  ASSERT_TRUE(log.Append(Line("checkpoint", 20)).ok());
  EXPECT_EQ(Contents(), Text({Line("progress", 10), Line("progress", 20), Line("progress", 30), Line("checkpoint", 20)}));
}

TEST_F(MetricsLogTest, AnEvaluationThatIsDoneAgainAfterAResumeStandsOnce) {
  PutText(storage_, kPath, Text({Line("progress", 20), Line("evaluation", 20)}));
  MetricsLog log = Resume(20);
  ASSERT_TRUE(log.Append(Line("evaluation", 20, 0.5)).ok());
  EXPECT_EQ(Contents(), Text({Line("progress", 20), Line("evaluation", 20, 0.5)}));
}

TEST_F(MetricsLogTest, AFullDiskCostsOnlyTheLinesThatDidNotFit) {
  MetricsLog log = Resume(0);
  ASSERT_TRUE(log.Append(Line("progress", 10)).ok());
  storage_.SetCapacity(static_cast<int64_t>(Contents().size()) + 5);  // five bytes of the next line get through
  EXPECT_EQ(log.Append(Line("progress", 20)).code(), StatusCode::kResourceExhausted);
  EXPECT_FALSE(log.Append(Line("progress", 30)).ok());
  storage_.SetCapacity(1 << 20);
  ASSERT_TRUE(log.Append(Line("progress", 40)).ok());
  EXPECT_EQ(Contents(), Text({Line("progress", 10), Line("progress", 40)}));
}

TEST_F(MetricsLogTest, ALineWithoutEventOrStepIsRefused) {
  MetricsLog log = Resume(0);
  EXPECT_EQ(log.Append(Value(Value::Map{{"event", "progress"}})).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(log.Append(Value(Value::Map{{"step", 7}})).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Contents(), "");
}

TEST_F(MetricsLogTest, APowerCutDuringTheRewriteLosesNoEarlierLine) {
  const std::string old_text = Text({Line("progress", 10), Line("progress", 20), Line("progress", 30)});
  const std::string new_text = Text({Line("progress", 10), Line("progress", 20)});
  int old_seen = 0, new_seen = 0;
  for (int64_t operation = 0; operation < 12; ++operation) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      SimStorage storage;
      ASSERT_TRUE(storage.CreateDirectories("run").ok());
      PutText(storage, kPath, old_text);
      storage.CrashAt(storage.operations() + operation);
      (void)MetricsLog::Open(storage, kPath, 20, false);
      storage.PowerCut(seed);
      const std::string found = TextOf(storage, kPath);
      ASSERT_TRUE(found == old_text || found == new_text) << operation << " " << seed << ":\n" << found;
      ++(found == old_text ? old_seen : new_seen);
    }
  }
  EXPECT_GT(old_seen, 0);
  EXPECT_GT(new_seen, 0);
}

}  // namespace
}  // namespace dtrain
