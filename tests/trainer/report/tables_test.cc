// Goal: what is said at the beginning and at the end is complete, aligned and fits 80 columns; the forecast is right. Method:
// the sample run, read by structure; closed forms for shares and time left.
#include "trainer/report/tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/report/sample_events.h"
#include "trainer/report/result.h"

namespace dtrain {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const NextCommands kNext = {.run_directory = "runs/quickstart", .config = "configs/quickstart.yaml", .ranks = 2};

TEST(StartTable, SaysAllThatARunIs) {
  Value start = SampleStart();
  start.Set("resumed_from", 500);
  start.Set("reproducible", true);
  start.Set("seconds_max", 7200.0);
  const std::string table = StartTable(start, {});
  for (const char* line :
       {"dtrain 0.1.0, LibTorch 2.11.0\n", "worker-7, 2 cores, cpu\n", "2 with 1 thread each\n", "shared memory, 2 ranks\n",
        "mlp, 101,770 parameters (407 kB)\n", "digits: 1,437 to train", "shuffled, remainder padded with 3 samples an epoch\n",
        "64 global = 2 ranks x 32 per rank x 1 accumulation\n", "sgd lr 0.05, momentum 0.9",
        "1,000 steps, 10 epochs of 100 steps, at most 2 h 0 min\n", "1.2 MB a rank: parameters 407 kB, gradients 407 kB, slots 407 kB\n",
        "runs/quickstart\n", "yes: the same bits", "from step 500\n"}) {
    EXPECT_THAT(table, HasSubstr(line));
  }
  EXPECT_LE(WidestLine(table), 80U) << table;
}

TEST(StartTable, TextsAreAlignedAlsoWhereWrapped) {
  std::vector<std::string> lines = Split(StartTable(SampleStart(), {}), '\n');
  lines.pop_back();
  ASSERT_GT(lines.size(), 8U);
  const size_t column = lines[1].find("worker-7");
  for (size_t i = 1; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].substr(column - 2, 2), "  ") << lines[i];
    EXPECT_NE(lines[i][column], ' ') << lines[i];
  }
}

TEST(StartTable, LeavesOutWhatIsNotKnownOrOfAnotherType) {
  EXPECT_EQ(StartTable(Value(Value::Map()), {}), "dtrain \n");
  Value start;
  start.Set("ranks", "two");
  start.Set("model", 7);
  start.Set("host", Value::List{Value(1)});
  EXPECT_EQ(StartTable(start, {}), "dtrain \n");
}

TEST(StartTable, FrozenParametersAreNamed) {
  Value start = SampleStart();
  start.Set("model.trainable", 5130);
  EXPECT_THAT(StartTable(start, {}), HasSubstr("101,770 parameters (407 kB), 5,130 trainable"));
}

TEST(EndSummary, OfADoneRunSaysWhatCameOutAndWhatToDoNext) {
  const std::string summary = EndSummary(MakeResult(SampleEnd(1000), ExitCode::kDone, ""), kNext, {});
  for (const std::string& line :
       {std::string("Done after 1,000 steps\n"), std::string("valid_accuracy 0.9722, valid_loss 0.1250\n"), std::string("40.0 s\n"),
        std::string("1,612 samples/s, 64,000 samples\n"), std::string("fwd+bwd 50%"),
        std::string("runs/quickstart/checkpoints/step-001000\n"), std::string("runs/quickstart/checkpoints/step-000900\n"),
        std::string(64, 'a') + "\n", std::string("dtrain eval runs/quickstart\n"), std::string("dtrain predict runs/quickstart ...\n"),
        std::string("dtrain train configs/quickstart.yaml -n 2 train.duration=...\n")}) {
    EXPECT_THAT(summary, HasSubstr(line));
  }
  EXPECT_LE(WidestLine(summary), 80U) << summary;
}

TEST(EndSummary, OfAStoppedRunResumes) {
  const std::string summary = EndSummary(MakeResult(SampleEnd(500), ExitCode::kStopped, ""), kNext, {});
  EXPECT_THAT(summary, HasSubstr("Stopped after 500 steps\n"));
  EXPECT_THAT(summary, HasSubstr("Resume        dtrain train configs/quickstart.yaml -n 2\n"));
  EXPECT_THAT(summary, Not(HasSubstr("predict")));
}

TEST(EndSummary, OfARunThatFailedBeforeItsFirstCheckpointStartsAgain) {
  Value facts = SampleEnd(3);
  facts.Set("checkpoints", Value::Map());
  const std::string summary = EndSummary(MakeResult(facts, ExitCode::kDiverged, "loss is nan"), kNext, {});
  EXPECT_THAT(summary, HasSubstr("Diverged after 3 steps\n"));
  EXPECT_THAT(summary, HasSubstr("Start again   dtrain train"));
  EXPECT_THAT(summary, Not(HasSubstr("dtrain eval")));
}

TEST(EndSummary, CommandsCanBePasted) {
  const std::string summary =
      EndSummary(MakeResult(SampleEnd(1), ExitCode::kDone, ""), {.run_directory = "my runs/it's", .config = "a.yaml", .ranks = 1}, {});
  EXPECT_THAT(summary, HasSubstr("dtrain eval 'my runs/it'\\''s'\n"));
  EXPECT_THAT(summary, HasSubstr("dtrain train a.yaml train.duration"));
}

TEST(PhaseShares, AreOfTheSumInTheOrderOfAStep) {
  const Value::Map phases = {{"save", 1.0},       {"data", 3.0},       {"forward_backward", 12.0}, {"exchange", 4.0},
                             {"optimizer", 0.05}, {"unknown", 1000.0}, {"evaluate", "long"}};
  // Of 20.05 seconds; the optimizer's quarter of a percent is not worth a word.
  EXPECT_EQ(PhaseLine(phases), "data 15%, fwd+bwd 60%, exchange 20%, save 5%");
  EXPECT_EQ(PhaseLine({}), "");
}

TEST(EtaSeconds, IsTheMeanStepTimesTheStepsLeft) {
  Value start = SampleStart();
  EXPECT_DOUBLE_EQ(*EtaSeconds(start, SampleProgress(250)), 750 / 25.0);
  // Steps of an earlier process took none of this one's time: 50 steps in 10 s, 750 left.
  start.Set("resumed_from", 200);
  EXPECT_DOUBLE_EQ(*EtaSeconds(start, SampleProgress(250)), 750 * 10.0 / 50);
  EXPECT_FALSE(EtaSeconds(start, SampleProgress(200)).has_value()) << "nothing was done yet";
  EXPECT_DOUBLE_EQ(*EtaSeconds(start, SampleProgress(1200)), 0);
}

TEST(EtaSeconds, IsTheSoonerOfStepsAndTime) {
  Value start = SampleStart();
  start.Set("seconds_max", 15.0);
  EXPECT_DOUBLE_EQ(*EtaSeconds(start, SampleProgress(250)), 5);
  EXPECT_DOUBLE_EQ(*EtaSeconds(start, SampleProgress(990)), 0) << "the time is over";
  start.Set("total_steps", Value());
  EXPECT_DOUBLE_EQ(*EtaSeconds(start, SampleProgress(100)), 11);
  start.Set("seconds_max", Value());
  EXPECT_FALSE(EtaSeconds(start, SampleProgress(100)).has_value());
}

TEST(Layout, WrapKeepsLongWordsWhole) {
  EXPECT_THAT(Wrap("aa bb cc", 5), ElementsAre("aa bb", "cc"));
  EXPECT_THAT(Wrap("a verylongword b", 6), ElementsAre("a", "verylongword", "b"));
  EXPECT_THAT(Wrap("anything at all", 0), ElementsAre("anything at all"));
}

TEST(Layout, ColumnsAreLettersNotBytes) {
  EXPECT_EQ(Columns("caf\xc3\xa9"), 4U);
  EXPECT_EQ(Clip("caf\xc3\xa9s and more", 8), "caf\xc3\xa9s...");
  EXPECT_EQ(Pad("caf\xc3\xa9", 6), "caf\xc3\xa9  ");
  EXPECT_EQ(Clip("short", 5), "short");
}

TEST(Layout, NumbersKeepWhatCounts) {
  EXPECT_EQ(MetricText(0.97221), "0.9722");
  EXPECT_EQ(MetricText(0), "0.0000");
  EXPECT_EQ(MetricText(0.0000123456), "1.235e-05");
  EXPECT_EQ(MetricText(1234567), "1.235e+06");
  EXPECT_EQ(SecondsText(-1), "0.0 ms");
}

}  // namespace
}  // namespace dtrain
