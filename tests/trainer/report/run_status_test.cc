// Goal: a run directory says what became of its run, and no damaged or foreign folder stops the listing. Method: run
// directories written by hand, whole, half and broken.
#include "trainer/report/run_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "tests/trainer/report/sample_events.h"
#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/report/environment.h"
#include "trainer/report/fields.h"
#include "trainer/report/result.h"

namespace dtrain {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr double kNow = 1'767'225'600;  // 2026-01-01 00:00 UTC

class RunStatusTest : public testing::Test {
 protected:
  void SetUp() override { ::setenv("TZ", "UTC", 1); }
  RunDirectory Make(const std::string& name) {
    const RunDirectory directory("runs/" + name);
    Value environment;
    environment.Set("started_at", kNow - 7200);
    EXPECT_TRUE(directory.Create(storage_, "model: {}\n", "model: {}\n", environment).ok());
    return directory;
  }
  void PutMetrics(const RunDirectory& directory) {
    Value progress = SampleProgress(120), evaluation = SampleEvaluation(100, 0.75);
    progress.Set("time", kNow - 60);
    evaluation.Set("time", kNow - 90);
    PutText(storage_, directory.metrics(),
            SampleProgress(50).ToJson() + "\n" + evaluation.ToJson() + "\n" + progress.ToJson() + "\n{\"torn");
  }
  void PutResult(const RunDirectory& directory, ExitCode code, std::string_view error) {
    Value result = MakeResult(SampleEnd(1000), code, error);
    result.Set("finished_at", kNow - 180);
    ASSERT_TRUE(WriteResult(storage_, directory.result(), result).ok());
  }
  Value Status(const RunDirectory& directory, bool running = false) {
    auto status = StatusOfRun(storage_, directory, running);
    EXPECT_TRUE(status.ok()) << status.status();
    return *status;
  }

  SimStorage storage_;
};

TEST(RunDirectory, NamesItsFiles) {
  const RunDirectory directory("runs/fashion/");
  EXPECT_EQ(directory.path(), "runs/fashion");
  EXPECT_EQ(directory.name(), "fashion");
  EXPECT_EQ(directory.metrics(), "runs/fashion/metrics.jsonl");
  EXPECT_EQ(directory.RankLog(3), "runs/fashion/logs/rank-3.log");
  EXPECT_EQ(RunDirectory("alone").name(), "alone");
}

TEST_F(RunStatusTest, CreateWritesWhatWasGivenAndAgain) {
  const RunDirectory directory("deep/runs/a");
  ASSERT_TRUE(directory.Create(storage_, "# mine\n", "all: keys\n", Value(Value::Map{{"host", "h"}})).ok());
  ASSERT_TRUE(directory.Create(storage_, "# mine, changed\n", "all: keys\n", Value(Value::Map{{"host", "h"}})).ok());
  EXPECT_EQ(TextOf(storage_, directory.config()), "# mine, changed\n");
  EXPECT_EQ(TextOf(storage_, directory.resolved()), "all: keys\n");
  EXPECT_EQ(TextOf(storage_, directory.env()), "{\"host\": \"h\"}\n");
  EXPECT_TRUE(*storage_.Exists(directory.logs()));
}

TEST_F(RunStatusTest, IsFinishedOnlyWhenDone) {
  const RunDirectory directory = Make("a");
  EXPECT_FALSE(*IsFinished(storage_, directory));
  PutResult(directory, ExitCode::kStopped, "");
  EXPECT_FALSE(*IsFinished(storage_, directory));
  PutResult(directory, ExitCode::kDone, "");
  EXPECT_TRUE(*IsFinished(storage_, directory));
  PutText(storage_, directory.result(), "{");
  EXPECT_FALSE(IsFinished(storage_, directory).ok());
}

TEST_F(RunStatusTest, OfAKilledRunComesFromItsLastWholeLines) {
  const RunDirectory directory = Make("a");
  PutMetrics(directory);
  const Value status = Status(directory);
  EXPECT_EQ(TextAt(status, "status"), "interrupted");
  EXPECT_EQ(IntAt(status, "step"), 120);
  EXPECT_EQ(NumberAt(status, "metrics.valid_accuracy"), 0.75);
  EXPECT_EQ(NumberAt(status, "at"), kNow - 60);
  EXPECT_EQ(TextAt(Status(directory, true), "status"), "running");
}

TEST_F(RunStatusTest, OfAFinishedRunComesFromItsResult) {
  const RunDirectory directory = Make("a");
  PutMetrics(directory);
  PutResult(directory, ExitCode::kDiverged, "the loss of step 7 is nan");
  const Value status = Status(directory);
  EXPECT_EQ(TextAt(status, "status"), "diverged");
  EXPECT_EQ(IntAt(status, "step"), 1000);
  EXPECT_EQ(TextAt(status, "error"), "the loss of step 7 is nan");
  EXPECT_EQ(NumberAt(status, "at"), kNow - 180);
  const std::string text = RenderStatus(status, kNow, {});
  EXPECT_THAT(text, StartsWith("a: diverged\n"));
  EXPECT_THAT(text, HasSubstr("the loss of step 7 is nan"));
  EXPECT_THAT(text, HasSubstr("2025-12-31 23:57, 3 min ago"));
  EXPECT_LE(WidestLine(text), 80U) << text;
}

TEST_F(RunStatusTest, ListsCheckpointsAndTheNewestWholeOne) {
  const RunDirectory directory = Make("a");
  CheckpointStore store(storage_, directory.path(), {.keep_last = 5});
  for (const Step step : {100, 200}) ASSERT_TRUE(store.Save({.step = step}).ok());
  ASSERT_TRUE(storage_.RemoveAll(directory.checkpoints() + "/step-000200/state.json").ok());
  const Value status = Status(directory);
  EXPECT_EQ(TextAt(status, "checkpoint"), "runs/a/checkpoints/step-000100");
  ASSERT_EQ(ListAt(status, "checkpoints").size(), 2U);
  const std::string text = RenderStatus(status, kNow, {});
  EXPECT_THAT(text, HasSubstr("step-000100, "));
  EXPECT_THAT(text, HasSubstr("step-000200, damaged: "));
}

TEST_F(RunStatusTest, OfNoRunDirectoryHints) {
  const auto status = StatusOfRun(storage_, RunDirectory("runs/none"), false);
  EXPECT_EQ(status.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(status.status()), HasSubstr("look at the run runs/none"));
}

TEST_F(RunStatusTest, ListingPassesOverWhatIsNoRunAndShowsWhatIsDamaged) {
  PutResult(Make("done"), ExitCode::kDone, "");
  PutMetrics(Make("killed"));
  PutMetrics(Make("live"));
  PutText(storage_, Make("torn").result(), "{\"status\": \"do");
  PutText(storage_, Make("nonsense").env(), "[[[");
  Make("new");
  ASSERT_TRUE(storage_.CreateDirectories("runs/foreign/metrics").ok());
  ASSERT_TRUE(storage_.CreateDirectories("runs/.hidden").ok());
  ASSERT_TRUE(storage_.CreateDirectories("runs/odd/metrics.jsonl").ok());  // a folder under a file's name
  PutText(storage_, "runs/notes.txt", "mine");
  const auto runs = ListRuns(storage_, "runs", [](const RunDirectory& directory) { return directory.name() == "live"; });
  ASSERT_TRUE(runs.ok()) << runs.status();
  std::vector<std::string> found;
  for (const Value& run : *runs) found.push_back(Cat(TextAt(run, "name"), " ", TextAt(run, "status")));
  EXPECT_THAT(found, ElementsAre("done done", "killed interrupted", "live running", "new interrupted", "nonsense interrupted",
                                 "odd interrupted", "torn damaged"));
  EXPECT_THAT(RenderRuns(*runs, kNow, {}), HasSubstr("damaged"));
}

TEST_F(RunStatusTest, ListingOfNothingIsEmpty) {
  const auto runs = ListRuns(storage_, "runs", nullptr);
  ASSERT_TRUE(runs.ok());
  EXPECT_TRUE(runs->empty());
  EXPECT_EQ(RenderRuns(*runs, kNow, {}), "no runs\n");
}

TEST_F(RunStatusTest, TableIsAlignedAndFitsTheTerminal) {
  PutResult(Make("quickstart"), ExitCode::kDone, "");
  PutMetrics(Make("a-run-with-a-name-that-is-longer-than-anyone-would-want-to-type"));
  Make("b");
  const auto runs = ListRuns(storage_, "runs", nullptr);
  const std::string table = RenderRuns(*runs, kNow, {});
  EXPECT_LE(WidestLine(table), 80U) << table;
  const std::vector<std::string> lines = Split(table, '\n');
  ASSERT_EQ(lines.size(), 5U);
  const size_t status = lines[0].find("STATUS"), metric = lines[0].find("METRIC"), when = lines[0].find("WHEN");
  EXPECT_EQ(lines[1].substr(status, 11), "interrupted");
  EXPECT_EQ(lines[1].substr(metric, 15), "accuracy 0.7500");
  EXPECT_EQ(lines[3].substr(status, 4), "done");
  EXPECT_EQ(lines[3].substr(when), "2025-12-31 23:57  3 min");
  EXPECT_EQ(lines[2].substr(when), "2025-12-31 22:00  2 h");
  // Without a terminal nothing is cut: scripts read names.
  EXPECT_THAT(RenderRuns(*runs, kNow, {.width = 0}), HasSubstr("than-anyone-would-want-to-type  interrupted"));
}

TEST(HeadlineMetric, IsTheAccuracyElseTheLossElseTheFirst) {
  EXPECT_EQ(HeadlineMetric({{"a", 1.0}, {"valid_accuracy", 0.5}, {"valid_loss", 2.0}}), "accuracy 0.5000");
  EXPECT_EQ(HeadlineMetric({{"a", 1.0}, {"valid_loss", Value()}}), "loss nan");
  EXPECT_EQ(HeadlineMetric({{"mse", 1.0}}), "mse 1.0000");
  EXPECT_EQ(HeadlineMetric({}), "");
}

TEST(Environment, NeverRecordsASecret) {
  const std::vector<std::string> environment = {"DTRAIN_TOKEN=t1",   "DTRAIN_DATA=/d", "OMP_NUM_THREADS=2",   "HOME=/root",
                                                "DTRAIN_API_KEY=t2", "DTRAIN_X",       "DTRAIN_NEXT_TOKEN=t3"};
  EXPECT_EQ(Value(RecordedVariables(environment)).ToJson(), "{\"DTRAIN_DATA\": \"/d\", \"OMP_NUM_THREADS\": \"2\"}");
  ::setenv("DTRAIN_TOKEN", "the-token-itself", 1);
  EXPECT_THAT(DescribeEnvironment("1", 0, {}).ToJson(), Not(HasSubstr("the-token-itself")));
}

TEST(Environment, SummarisesTheProcessor) {
  const Value processor =
      DescribeProcessor("processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nflags\t\t: fpu avx2 sse4_2 fma bogus\nflags\t\t: avx512f\n");
  EXPECT_EQ(TextAt(processor, "cpu_model"), "Some CPU @ 2.00GHz");
  EXPECT_EQ(TextAt(processor, "cpu_flags"), "sse4_2 fma avx2");
  EXPECT_TRUE(DescribeProcessor("").At("cpu_model").is_null());
}

TEST(Environment, OfThisMachineIsCompleteJson) {
  const std::vector<std::string> command_line = {"dtrain", "train", "caf\xe9"};
  const auto read = ParseJson(DescribeEnvironment("0.1.0", kNow, command_line).ToJson());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(TextAt(*read, "version"), "0.1.0");
  EXPECT_EQ(NumberAt(*read, "started_at"), kNow);
  EXPECT_GE(IntAt(*read, "cores").value_or(0), 1);
  EXPECT_GT(IntAt(*read, "memory_bytes").value_or(0), 1 << 20);
  EXPECT_THAT(TextAt(*read, "kernel"), StartsWith("Linux "));
  EXPECT_EQ(ListAt(*read, "command_line").size(), 3U);
}

}  // namespace
}  // namespace dtrain
