// Goal: whatever rank 0 sends and however the job ends, what is shown and what is kept agree and nothing crashes. Method: whole
// runs on a disk in memory and a clock that stands still; nonsense events; a disk that fails at each operation.
#include "trainer/report/recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"
#include "tests/sim/manual_clock.h"
#include "tests/trainer/report/sample_events.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/report/fields.h"
#include "trainer/report/result.h"
#include "trainer/report/run_status.h"

namespace dtrain {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

class RecorderTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(storage_.CreateDirectories(directory_.path()).ok()); }

  std::unique_ptr<Recorder> Make() {
    return std::make_unique<Recorder>(RecorderOptions{.directory = directory_, .config = "configs/quickstart.yaml", .ranks = 2}, storage_,
                                      clock_, [this](std::string_view text) { shown_ += text; });
  }
  void Train(Recorder& recorder, int64_t from, int64_t to) {
    for (int64_t step = from; step <= to; step += 50) {
      clock_.Advance(std::chrono::seconds(2));
      recorder.OnEvent(SampleProgress(step).ToJson());
      if (step % 100 == 0) recorder.OnEvent(SampleEvaluation(step, 0.9).ToJson());
      if (step % 200 == 0) recorder.OnEvent(SampleCheckpoint(step).ToJson());
    }
  }
  // "progress 50", "evaluation 100", ...
  std::vector<std::string> Recorded() const {
    std::vector<std::string> lines;
    for (const std::string& line : Split(TextOf(storage_, directory_.metrics()), '\n')) {
      if (line.empty()) continue;
      const auto value = ParseJson(line);
      EXPECT_TRUE(value.ok()) << line;
      lines.push_back(Cat(TextAt(*value, "event"), " ", IntAt(*value, "step").value_or(-1)));
    }
    return lines;
  }
  int EventFiles() const {
    int count = 0;
    const auto names = storage_.List(directory_.path());
    for (const std::string& name : *names) count += name.starts_with("events.out.tfevents.") ? 1 : 0;
    return count;
  }

  const RunDirectory directory_{"runs/quickstart"};
  SimStorage storage_;
  ManualClock clock_;
  std::string shown_;
};

TEST_F(RecorderTest, AWholeRunIsShownAndKept) {
  auto recorder = Make();
  recorder->OnEvent(SampleStart().ToJson());
  Train(*recorder, 50, 1000);
  recorder->OnEvent(SampleEnd(1000).ToJson());
  EXPECT_EQ(recorder->Finish(ExitCode::kDone, OkStatus()), ExitCode::kDone);
  EXPECT_THAT(shown_, HasSubstr("dtrain 0.1.0, LibTorch 2.11.0\n"));
  EXPECT_THAT(shown_, HasSubstr("evaluation at step 1,000: valid_accuracy 0.9000"));
  EXPECT_THAT(shown_, EndsWith("dtrain train configs/quickstart.yaml -n 2 train.duration=...\n"));
  EXPECT_EQ(Recorded().size(), 20U + 10U + 5U);
  EXPECT_EQ(EventFiles(), 1);
  const auto result = ReadResult(storage_, directory_.result());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(TextAt(*result, "status"), "done");
  EXPECT_EQ(IntAt(*result, "world_size"), 2);
  EXPECT_EQ(NumberAt(*result, "samples_per_s"), 1612.5);
  EXPECT_EQ(NumberAt(*result, "finished_at"), clock_.WallSeconds());
}

TEST_F(RecorderTest, AResumedRunHoldsEachStepOnce) {
  auto first = Make();
  first->OnEvent(SampleStart().ToJson());
  Train(*first, 50, 350);  // killed: no end, no result
  auto second = Make();
  Value start = SampleStart();
  start.Set("resumed_from", 200);
  clock_.Advance(std::chrono::seconds(5));
  second->OnEvent(start.ToJson());
  Train(*second, 250, 400);
  std::vector<std::string> expected;
  for (int64_t step = 50; step <= 400; step += 50) {
    expected.push_back(Cat("progress ", step));
    if (step % 100 == 0) expected.push_back(Cat("evaluation ", step));
    if (step % 200 == 0) expected.push_back(Cat("checkpoint ", step));
  }
  EXPECT_EQ(Recorded(), expected);
  EXPECT_EQ(EventFiles(), 2);
}

TEST_F(RecorderTest, WhileARunGoesThereIsNoResult) {
  auto first = Make();
  first->OnEvent(SampleStart().ToJson());
  first->OnEvent(SampleEnd(10).ToJson());
  first->Finish(ExitCode::kStopped, OkStatus());
  ASSERT_TRUE(*storage_.Exists(directory_.result()));
  Make()->OnEvent(SampleStart().ToJson());
  EXPECT_FALSE(*storage_.Exists(directory_.result()));
}

TEST_F(RecorderTest, AFailedRunKeepsWhatWasKnownAndEndsWithTheError) {
  auto recorder = Make();
  recorder->OnEvent(SampleStart().ToJson());
  Train(*recorder, 50, 250);
  const Status why = WithHint(Aborted("rank 1 died in step 251: killed by signal 9"), "look at its log");
  EXPECT_EQ(recorder->Finish(ExitCode::kRankFailed, why), ExitCode::kRankFailed);
  EXPECT_THAT(shown_, HasSubstr("Failed after 250 steps\n"));
  EXPECT_THAT(shown_, HasSubstr("Resume        dtrain train configs/quickstart.yaml -n 2\n"));
  EXPECT_THAT(shown_, EndsWith("error: rank 1 died in step 251: killed by signal 9\n  Hint: look at its log\n"));
  const auto result = ReadResult(storage_, directory_.result());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(TextAt(*result, "status"), "failed");
  EXPECT_EQ(IntAt(*result, "exit_code"), 5);
  EXPECT_EQ(IntAt(*result, "steps"), 250);
  EXPECT_EQ(IntAt(*result, "samples"), 250 * 64);
  EXPECT_EQ(NumberAt(*result, "train_s"), 10.0);
  EXPECT_EQ(NumberAt(*result, "metrics.valid_accuracy"), 0.9);
  EXPECT_EQ(TextAt(*result, "checkpoints.last"), "runs/quickstart/checkpoints/step-000200");
  EXPECT_THAT(TextAt(*result, "error"), HasSubstr("killed by signal 9"));
}

TEST_F(RecorderTest, AFailureBeforeTheStartLeavesAnOlderResultAlone) {
  auto first = Make();
  first->OnEvent(SampleStart().ToJson());
  first->OnEvent(SampleEnd(10).ToJson());
  first->Finish(ExitCode::kStopped, OkStatus());
  const std::string before = TextOf(storage_, directory_.result());
  shown_.clear();
  EXPECT_EQ(Make()->Finish(ExitCode::kSetUp, NotFound("open data: no such file")), ExitCode::kSetUp);
  EXPECT_EQ(shown_, "error: open data: no such file\n");
  EXPECT_EQ(TextOf(storage_, directory_.result()), before);
}

TEST_F(RecorderTest, AFailureBeforeTheFirstStartIsRecorded) {
  Make()->Finish(ExitCode::kSetUp, NotFound("open data: no such file"));
  const auto result = ReadResult(storage_, directory_.result());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(TextAt(*result, "error"), "open data: no such file");
  EXPECT_EQ(IntAt(*result, "steps"), 0);
}

TEST_F(RecorderTest, ARankZeroThatNeverSaidHowItEndedIsNotDone) {
  auto recorder = Make();
  recorder->OnEvent(SampleStart().ToJson());
  Train(*recorder, 50, 100);
  EXPECT_EQ(recorder->Finish(ExitCode::kDone, OkStatus()), ExitCode::kRankFailed);
  EXPECT_EQ(TextAt(*ReadResult(storage_, directory_.result()), "status"), "failed");
}

TEST_F(RecorderTest, NonsenseIsAWarningSaidThreeTimesAtMost) {
  auto recorder = Make();
  for (int i = 0; i < 10; ++i) {
    recorder->OnEvent("{\"event\": \"progress\", \"step\": -5}");
    recorder->OnEvent("not json \x1b[2J");
    recorder->OnEvent("[]");
  }
  size_t warnings = 0;
  for (size_t at = 0; (at = shown_.find("warning:", at)) != std::string::npos; ++at) ++warnings;
  EXPECT_EQ(warnings, 3U) << shown_;
  EXPECT_THAT(shown_, Not(HasSubstr("\x1b")));
  EXPECT_THAT(shown_, HasSubstr("more of these are not shown"));
}

// Each field of each event in turn is one of many wrong things; nothing may crash, and the result keeps its contract.
TEST_F(RecorderTest, FieldsOfAnyTypeAreSurvived) {
  const std::vector<Value> wrong = {Value(),
                                    Value(true),
                                    Value(-1),
                                    Value(INT64_MAX),
                                    Value(INT64_MIN),
                                    Value(1e300),
                                    Value(-1e300),
                                    Value(""),
                                    Value(std::string(5000, 'x')),
                                    Value("\xc3\xa9\n\x1b"),
                                    Value(Value::List{Value(1), Value("a")}),
                                    Value(Value::Map{{"a", Value::Map{{"b", 1}}}, {"last", 7}})};
  const std::vector<Value> events = {SampleStart(), SampleProgress(100), SampleEvaluation(100, 0.5), SampleCheckpoint(100), SampleEnd(100)};
  for (const ConsoleMode mode : {ConsoleMode::kPlain, ConsoleMode::kLive}) {
    for (size_t changed = 0; changed < events.size(); ++changed) {
      std::vector<std::string> paths;
      for (const auto& [key, value] : *events[changed].if_map()) {
        paths.push_back(key);
        if (const Value::Map* map = value.if_map()) {
          for (const auto& [inner, unused] : *map) paths.push_back(Cat(key, ".", inner));
        }
      }
      for (const std::string& path : paths) {
        for (const Value& value : wrong) {
          SimStorage storage;
          ASSERT_TRUE(storage.CreateDirectories(directory_.path()).ok());
          Recorder recorder({.directory = directory_, .console = {.mode = mode}}, storage, clock_, [](std::string_view) {});
          for (size_t i = 0; i < events.size(); ++i) {
            Value event = events[i];
            if (i == changed) event.Set(path, value);
            recorder.OnEvent(event.ToJson());
          }
          ASSERT_TRUE(ParseJson(recorder.StatusAnswer()).ok());
          recorder.Finish(ExitCode::kDone, OkStatus());
          ASSERT_TRUE(ReadResult(storage, directory_.result()).ok()) << changed << " " << path << " " << value.ToJson();
          ASSERT_TRUE(StatusOfRun(storage, directory_, false).ok());
        }
      }
    }
  }
}

TEST_F(RecorderTest, RandomBytesAreSurvived) {
  auto recorder = Make();
  recorder->OnEvent(SampleStart().ToJson());
  const std::string good = SampleProgress(100).ToJson();
  Rng random(7, RngPurpose::kSynthetic);
  for (int round = 0; round < 2000; ++round) {
    std::string bad = good;
    for (uint64_t changes = 1 + random.Below(4); changes > 0; --changes)
      bad[random.Below(bad.size())] = static_cast<char>(random.Below(256));
    recorder->OnEvent(bad);
  }
  recorder->OnEvent(SampleEnd(1000).ToJson());
  recorder->Finish(ExitCode::kDone, OkStatus());
  EXPECT_TRUE(ReadResult(storage_, directory_.result()).ok());
}

// A disk that fails once, at any operation, costs a warning; only a result that cannot be written changes how the job ends.
TEST_F(RecorderTest, AFailingDiskNeverStopsARun) {
  int failed_results = 0, warned = 0;
  for (int64_t operation = 0; operation < 40; ++operation) {
    SimStorage storage;
    ASSERT_TRUE(storage.CreateDirectories(directory_.path()).ok());
    std::string shown;
    Recorder recorder({.directory = directory_}, storage, clock_, [&](std::string_view text) { shown += text; });
    storage.FailAt(storage.operations() + operation, ResourceExhausted("write: no space left"));
    recorder.OnEvent(SampleStart().ToJson());
    for (const int64_t step : {50, 100, 150}) recorder.OnEvent(SampleProgress(step).ToJson());
    recorder.OnEvent(SampleEvaluation(150, 0.5).ToJson());
    recorder.OnEvent(SampleEnd(150).ToJson());
    const ExitCode code = recorder.Finish(ExitCode::kDone, OkStatus());
    const bool has_result = ReadResult(storage, directory_.result()).ok();
    if (code == ExitCode::kDone) {
      ASSERT_TRUE(has_result) << operation;
    }
    if (code != ExitCode::kDone) ++failed_results;
    if (shown.find("no space left") != std::string::npos) ++warned;
    EXPECT_THAT(shown, HasSubstr("Done after 150 steps"));
  }
  EXPECT_GT(failed_results, 0);
  EXPECT_GT(warned, 6);
}

TEST_F(RecorderTest, StatusAnswerHasTheKeysOfAFinishedRun) {
  auto recorder = Make();
  recorder->OnEvent(SampleStart().ToJson());
  Train(*recorder, 50, 250);
  const auto running = ParseJson(recorder->StatusAnswer());
  ASSERT_TRUE(running.ok());
  EXPECT_EQ(TextAt(*running, "status"), "running");
  EXPECT_EQ(IntAt(*running, "step"), 250);
  EXPECT_EQ(NumberAt(*running, "eta_s"), 30.0);
  EXPECT_EQ(NumberAt(*running, "metrics.valid_accuracy"), 0.9);
  EXPECT_EQ(TextAt(*running, "checkpoint"), "runs/quickstart/checkpoints/step-000200");
  const auto stored = StatusOfRun(storage_, directory_, true);
  ASSERT_TRUE(stored.ok());
  const auto keys = [](const Value& value) {
    std::vector<std::string> names;
    for (const auto& [key, entry] : *value.if_map()) names.push_back(key);
    return names;
  };
  EXPECT_EQ(keys(*running), keys(*stored));
  EXPECT_EQ(*IntAt(*stored, "step"), 250);
}

TEST_F(RecorderTest, AnswersBeforeTheFirstEvent) {
  const auto answer = ParseJson(Make()->StatusAnswer());
  ASSERT_TRUE(answer.ok());
  EXPECT_TRUE(answer->At("step").is_null());
}

TEST_F(RecorderTest, OutputOfRanksIsPassedOn) {
  Make()->OnOutput("[rank 1] hello");
  EXPECT_EQ(shown_, "[rank 1] hello\n");
}

TEST_F(RecorderTest, TicksShowWaitingProgress) {
  auto recorder = Make();
  recorder->OnEvent(SampleProgress(1).ToJson());
  recorder->OnEvent(SampleProgress(7).ToJson());
  EXPECT_THAT(shown_, Not(HasSubstr("step 7")));
  clock_.Advance(std::chrono::seconds(2));
  recorder->OnTick();
  EXPECT_THAT(shown_, HasSubstr("step 7"));
}

}  // namespace
}  // namespace dtrain
