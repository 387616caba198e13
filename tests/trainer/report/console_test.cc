// Goal: what a terminal gets can be read, never wraps a live line, and comes no faster than promised. Method: the renderer is
// pure, so its text is read as it is; a small terminal replays what live mode writes; time is an argument.
#include "trainer/report/console.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/trainer/report/sample_events.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const TimePoint kStart(std::chrono::hours(1));

Console Make(ConsoleMode mode, int width = 80) { return Console({.mode = mode, .style = {.width = width}}); }

// A terminal as far as we use one: text, newline, carriage return, erase line.
class Terminal {
 public:
  explicit Terminal(size_t width) : width_(width) {}
  void Write(std::string_view text) {
    for (size_t i = 0; i < text.size(); ++i) {
      if (text.substr(i).starts_with("\x1b[2K")) {
        lines_.back().clear();
        i += 3;
      } else if (text[i] == '\n') {
        lines_.emplace_back();
        column_ = 0;
      } else if (text[i] == '\r') {
        column_ = 0;
      } else {
        ASSERT_EQ(column_, lines_.back().size()) << "writes over what was not erased";
        lines_.back() += text[i];
        if (++column_ >= width_) wrapped_ = true;
      }
    }
  }
  const std::vector<std::string>& lines() const { return lines_; }
  bool wrapped() const { return wrapped_; }

 private:
  size_t width_, column_ = 0;
  std::vector<std::string> lines_ = {""};
  bool wrapped_ = false;
};

TEST(PlainConsole, ShowsAProgressLineAtMostEveryTwoSeconds) {
  Console console = Make(ConsoleMode::kPlain);
  console.OnEvent(SampleStart(), kStart);
  EXPECT_THAT(console.OnEvent(SampleProgress(10), kStart), StartsWith("step 10/1,000  1%"));
  EXPECT_EQ(console.OnEvent(SampleProgress(20), kStart + milliseconds(1000)), "");
  EXPECT_EQ(console.OnEvent(SampleProgress(30), kStart + milliseconds(1999)), "");
  // The newest waiting progress comes with the clock, not only with a further event.
  EXPECT_THAT(console.Tick(kStart + milliseconds(2000)), StartsWith("step 30/1,000"));
  EXPECT_EQ(console.Tick(kStart + milliseconds(4000)), "") << "shown twice";
}

TEST(PlainConsole, EvaluationBringsTheProgressBeforeItAndWhereTimeGoes) {
  Console console = Make(ConsoleMode::kPlain);
  console.OnEvent(SampleStart(), kStart);
  console.OnEvent(SampleProgress(10), kStart);
  console.OnEvent(SampleProgress(100), kStart + milliseconds(1));
  const std::string text = console.OnEvent(SampleEvaluation(100, 0.9722), kStart + milliseconds(2));
  EXPECT_THAT(Split(text, '\n'), ElementsAre(StartsWith("step 100/1,000  10%  epoch 1.00  1,600 samples/s  loss 0.7667  lr 0.05  ETA 36 s"),
                                             "  data 5%, fwd+bwd 50%, exchange 25%, optimizer 10%, evaluate 8%, save 2%",
                                             "evaluation at step 100: valid_accuracy 0.9722, valid_loss 0.1250 (250 ms)", ""));
}

TEST(PlainConsole, SaysWhereTimeGoesEveryTwentySeconds) {
  Console console = Make(ConsoleMode::kPlain);
  int shares = 0;
  for (int second = 0; second <= 60; ++second) {
    const std::string text = console.OnEvent(SampleProgress(second * 25), kStart + seconds(second));
    if (text.find("exchange 25%") != std::string::npos) ++shares;
  }
  EXPECT_EQ(shares, 3);  // of step 0 no time is known yet; then at 2 (the first known), 22 and 42
}

TEST(PlainConsole, CheckpointLineNamesThePause) {
  Console console = Make(ConsoleMode::kPlain);
  EXPECT_EQ(console.OnEvent(SampleCheckpoint(500), kStart), "checkpoint step-000500: 815 kB, training paused 2.1 ms, written in 40 ms\n");
}

TEST(PlainConsole, NothingIsWiderThanTheTerminal) {
  for (const int width : {40, 60, 80, 120}) {
    Console console = Make(ConsoleMode::kPlain, width);
    std::string text = console.OnEvent(SampleStart(), kStart);
    Value progress = SampleProgress(999);
    progress.Set("samples_per_s", 123'456'789.0);
    progress.Set("loss", 1.23456e-12);
    text += console.OnEvent(progress, kStart + seconds(10));
    text += console.OnEvent(SampleEvaluation(1000, 0.5), kStart + seconds(20));
    text += console.OnEvent(SampleCheckpoint(1000), kStart + seconds(30));
    EXPECT_LE(WidestLine(text), static_cast<size_t>(width)) << text;
  }
}

TEST(LiveConsole, NeverWrapsAndLeavesNothingBehind) {
  for (const int width : {20, 40, 80, 132, 200}) {
    Console console = Make(ConsoleMode::kLive, width);
    Terminal terminal(static_cast<size_t>(width));
    for (int64_t step = 1; step <= 1000; step += 37) terminal.Write(console.OnEvent(SampleProgress(step), kStart + seconds(step)));
    EXPECT_FALSE(terminal.wrapped()) << width;
    ASSERT_EQ(terminal.lines().size(), 1U);
    EXPECT_THAT(terminal.lines()[0], StartsWith("step 1,000"));
    terminal.Write(console.End("Done\n"));
    EXPECT_THAT(terminal.lines(), ElementsAre("Done", ""));
  }
}

TEST(LiveConsole, KeepsTheMostImportantPartsWhereItIsNarrow) {
  const auto line = [](int width) {
    Console console = Make(ConsoleMode::kLive, width);
    console.OnEvent(SampleStart(), kStart);
    return console.OnEvent(SampleProgress(500), kStart);
  };
  EXPECT_THAT(line(200), HasSubstr("fwd+bwd 50%  exchange 25%  optimizer 10%  evaluate 8%  save 2%"));
  EXPECT_THAT(line(100), HasSubstr("fwd+bwd 50%"));
  EXPECT_THAT(line(100), Not(HasSubstr("save 2%")));
  EXPECT_THAT(line(80), HasSubstr("loss 0.2091  lr 0.05  ETA 20 s"));
  EXPECT_THAT(line(50), HasSubstr("loss 0.2091"));
  EXPECT_THAT(line(50), Not(HasSubstr("lr 0.05")));
}

TEST(LiveConsole, OutputOfRanksStandsAboveTheLiveLine) {
  Console console = Make(ConsoleMode::kLive);
  Terminal terminal(80);
  terminal.Write(console.OnEvent(SampleProgress(100), kStart));
  terminal.Write(console.Print("[rank 1] one"));
  terminal.Write(console.Say(LogLevel::kWarning, "two\n  Hint: three"));
  terminal.Write(console.OnEvent(SampleEvaluation(100, 0.5), kStart));
  // A progress bar of the user's own would write over our line: its last state is what stands.
  terminal.Write(console.Print("10%\r20%\r30%\r"));
  ASSERT_EQ(terminal.lines().size(), 6U);
  EXPECT_THAT(terminal.lines(), ElementsAre("[rank 1] one", "warning: two", "  Hint: three", StartsWith("evaluation at step 100"), "30%",
                                            StartsWith("step 100")));
}

TEST(LiveConsole, IsRewrittenAtMostTenTimesASecond) {
  Console console = Make(ConsoleMode::kLive);
  int writes = 0;
  for (int i = 0; i < 1000; ++i) {
    if (!console.OnEvent(SampleProgress(i + 1), kStart + milliseconds(i)).empty()) ++writes;
  }
  EXPECT_EQ(writes, 10);
}

TEST(LiveConsole, ColoursOnlyWhereAsked) {
  Console plain = Make(ConsoleMode::kLive);
  EXPECT_THAT(plain.Say(LogLevel::kError, "broken"), "error: broken\n");
  Console coloured({.mode = ConsoleMode::kLive, .style = {.colours = true}});
  EXPECT_THAT(coloured.Say(LogLevel::kError, "broken"), "\x1b[31merror:\x1b[0m broken\n");
}

TEST(Console, QuietSaysWarningsAndErrorsOnly) {
  Console console({.mode = ConsoleMode::kPlain, .quiet = true});
  EXPECT_EQ(console.OnEvent(SampleStart(), kStart), "");
  EXPECT_EQ(console.OnEvent(SampleProgress(100), kStart), "");
  EXPECT_EQ(console.OnEvent(SampleEvaluation(100, 0.5), kStart), "");
  EXPECT_EQ(console.Tick(kStart + seconds(10)), "");
  EXPECT_EQ(console.Print("output"), "");
  EXPECT_EQ(console.Say(LogLevel::kInfo, "note"), "");
  EXPECT_EQ(console.Say(LogLevel::kWarning, "careful"), "warning: careful\n");
  EXPECT_EQ(console.End("Done\n"), "");
}

TEST(Console, ModeNoneKeepsTableAndSummary) {
  Console console = Make(ConsoleMode::kNone);
  EXPECT_THAT(console.OnEvent(SampleStart(), kStart), HasSubstr("LibTorch"));
  EXPECT_EQ(console.OnEvent(SampleProgress(100), kStart), "");
  EXPECT_EQ(console.OnEvent(SampleEvaluation(100, 0.5), kStart), "");
  EXPECT_EQ(console.OnEvent(SampleCheckpoint(100), kStart), "");
  EXPECT_EQ(console.End("Done\n"), "Done\n");
}

TEST(Console, LevelKeepsNotesAway) {
  Console console({.mode = ConsoleMode::kPlain, .level = LogLevel::kWarning});
  const auto event = [](const char* kind) { return Value(Value::Map{{"event", kind}, {"text", "words"}}); };
  EXPECT_EQ(console.OnEvent(event("note"), kStart), "");
  EXPECT_EQ(console.OnEvent(event("warning"), kStart), "warning: words\n");
}

TEST(Console, TextFromElsewhereCannotMoveTheCursor) {
  Console console = Make(ConsoleMode::kPlain);
  Value start = SampleStart();
  start.Set("host", "evil\x1b[2J\r\nhost");
  EXPECT_THAT(console.OnEvent(start, kStart), HasSubstr("evil [2J  host"));
  Value evaluation = SampleEvaluation(1, 0.5);
  evaluation.Set("metrics", Value::Map{{"m\x1b[2J", 1.0}});
  EXPECT_THAT(console.OnEvent(evaluation, kStart), Not(HasSubstr("\x1b")));
}

TEST(Console, AShortRunStillShowsItsLastProgress) {
  Console console = Make(ConsoleMode::kPlain);
  console.OnEvent(SampleProgress(1), kStart);
  console.OnEvent(SampleProgress(9), kStart + milliseconds(100));
  EXPECT_THAT(console.End("Done\n"), testing::AllOf(StartsWith("step 9"), HasSubstr("\nDone\n")));
}

TEST(Console, ALossThatIsNoNumberIsSaid) {
  Console console = Make(ConsoleMode::kPlain);
  Value progress = SampleProgress(5);
  progress.Set("loss", Value());
  EXPECT_THAT(console.OnEvent(progress, kStart), HasSubstr("loss nan"));
}

TEST(ChooseConsole, NoTerminalIsPlainWithoutColours) {
  int pipes[2];
  ASSERT_EQ(::pipe(pipes), 0);
  const ConsoleOptions options = ChooseConsole("auto", pipes[1]);
  EXPECT_EQ(options.mode, ConsoleMode::kPlain);
  EXPECT_FALSE(options.style.colours);
  EXPECT_EQ(options.style.width, 80);
  EXPECT_EQ(ChooseConsole("live", pipes[1]).mode, ConsoleMode::kLive);
  EXPECT_EQ(ChooseConsole("none", pipes[1]).mode, ConsoleMode::kNone);
  ::close(pipes[0]);
  ::close(pipes[1]);
}

TEST(ChooseConsole, ATerminalIsLiveWithColoursUnlessForbidden) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) GTEST_SKIP() << "no pseudo terminals here";
  ASSERT_EQ(::grantpt(terminal), 0);
  ASSERT_EQ(::unlockpt(terminal), 0);
  const int side = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
  if (side < 0) GTEST_SKIP() << "no pseudo terminals here";
  winsize size = {.ws_row = 24, .ws_col = 132};
  ASSERT_EQ(::ioctl(terminal, TIOCSWINSZ, &size), 0);
  ::setenv("TERM", "xterm", 1);
  ::unsetenv("NO_COLOR");
  EXPECT_EQ(ChooseConsole("auto", side).mode, ConsoleMode::kLive);
  EXPECT_TRUE(ChooseConsole("auto", side).style.colours);
  EXPECT_EQ(ChooseConsole("auto", side).style.width, 132);
  EXPECT_EQ(ChooseConsole("plain", side).mode, ConsoleMode::kPlain);
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(ChooseConsole("auto", side).style.colours);
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "dumb", 1);
  EXPECT_EQ(ChooseConsole("auto", side).mode, ConsoleMode::kPlain);
  ::close(side);
  ::close(terminal);
}

}  // namespace
}  // namespace dtrain
