// Goal: N real processes end with one outcome that names the culprit, in time, and none is left over. Method: a small
// program as the rank (test_rank.cc) that dies, freezes or misbehaves in every way at its fifth step.
#include "cluster/launcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/digest.h"
#include "cluster/job_client.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

#ifdef DTRAIN_SANITIZED
constexpr int kSlower = 6;  // so much time more for everything that must not look like silence
#else
constexpr int kSlower = 1;
#endif

std::string Contents(const std::string& path) {
  std::ifstream file(path);
  return (std::ostringstream() << file.rdbuf()).str();
}

// No such process, or only what is left of it until its parent looks.
bool Gone(pid_t pid) {
  const std::string stat = Contents(Cat("/proc/", pid, "/stat"));
  const size_t paren = stat.rfind(") ");
  return paren == std::string::npos || stat[paren + 2] == 'Z' || stat[paren + 2] == 'X';
}

bool Within(Duration limit, const std::function<bool()>& condition) {
  for (const Deadline deadline = Deadline::In(limit); !deadline.Passed(); std::this_thread::sleep_for(milliseconds(5))) {
    if (condition()) return true;
  }
  return condition();
}

class LauncherTest : public testing::Test {
 protected:
  void SetUp() override { directory_ = Cat(testing::TempDir(), "/dtrain-launcher-", Hex(SecureRandom()).substr(0, 12)); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  LaunchOptions Options(const std::string& how, int acting = 1, int ranks = 3) {
    LaunchOptions options;
    options.command = {TEST_RANK, how, Cat(acting)};
    options.ranks = ranks;
    options.run_directory = directory_;
    options.job_description = "train this";
    options.deadline = seconds(20);  // shorter only where silence is the matter: a busy machine looks silent too
    options.start_limit = seconds(60);
    options.handle_signals = false;
    options.on_output = [this](std::string_view line) { output_ += Cat(line, "\n"); };
    options.on_event = [this](int rank, const std::string& event) { events_ += Cat("rank ", rank, ": ", event, "\n"); };
    options.on_notice = [this](LogLevel level, const std::string& text) {
      notices_ += Cat(level == LogLevel::kWarning ? "warning: " : "note: ", text, "\n");
    };
    return options;
  }
  JobOutcome Run(const LaunchOptions& options) {
    auto launcher = Launcher::Start(options);
    EXPECT_TRUE(launcher.ok()) << launcher.status().message();
    if (!launcher.ok()) return {ExitCode::kUsage, launcher.status()};
    const TimePoint start = SystemClock().Now();
    JobOutcome outcome = (*launcher)->Run();
    took_ = SystemClock().Now() - start;
    return outcome;
  }
  JobOutcome Run(const std::string& how) { return Run(Options(how)); }

  std::string directory_, output_, events_, notices_;
  Duration took_ = {};
};

TEST_F(LauncherTest, AllWellIsDone) {
  const JobOutcome outcome = Run("ok");
  EXPECT_EQ(outcome.code, ExitCode::kDone) << outcome.status.message();
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_FALSE(outcome.stopped_by_user);
  for (int rank = 0; rank < 3; ++rank) {
    const std::string line = Cat("rank ", rank, " of 3 was told: train this");
    EXPECT_THAT(output_, HasSubstr(Cat("rank ", rank, " | ", line, "\n")));
    EXPECT_THAT(Contents(Cat(directory_, "/logs/rank-", rank, ".log")), AllOf(HasSubstr(line), ContainsRegex("^=== 20.*Z rank ")));
    EXPECT_THAT(events_, ContainsRegex(Cat("rank ", rank, ": descriptors 0 1 2 pid ([0-9]+) group ")));
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/.control"));
  EXPECT_THAT(Contents(directory_ + "/processes.json"),
              AllOf(HasSubstr("\"role\": \"launcher\""), HasSubstr("\"ended\": \"exit code 0\"")));
}

TEST_F(LauncherTest, AKilledRankIsNamedWithItsSignal) {
  const JobOutcome outcome = Run("kill");
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_EQ(outcome.culprit, 1);
  EXPECT_EQ(ExitCodeOf(outcome.status, ExitCode::kDone), ExitCode::kRankFailed);
  EXPECT_THAT(Message(outcome.status),
              ContainsRegex("rank 1 of 3 \\(pid [0-9]+, (step [0-9]+|before its first step)\\): killed by signal 9"));
  EXPECT_THAT(Message(outcome.status), HasSubstr("rank-1.log:\n    rank 1 of 3 was told: train this"));
  EXPECT_LT(took_, seconds(20) * kSlower);
  EXPECT_THAT(Contents(directory_ + "/processes.json"), HasSubstr("killed by signal 9"));
}

TEST_F(LauncherTest, AFrozenRankIsNamedWithinTheDeadline) {
  LaunchOptions options = Options("freeze");
  options.deadline = milliseconds(700) * kSlower;
  const JobOutcome outcome = Run(options);
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_THAT(Message(outcome.status), AllOf(HasSubstr("rank 1 of 3"), HasSubstr("heartbeat has been silent for")));
  EXPECT_GE(took_, options.deadline * 4 / 5);
  EXPECT_LT(took_, 10 * options.deadline);
}

TEST_F(LauncherTest, ARankThatExitsWithoutAWordIsAFailure) {
  const JobOutcome outcome = Run("exit");
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_THAT(Message(outcome.status), AllOf(HasSubstr("rank 1 of 3"), HasSubstr("ended with exit code 1 without a last word")));
}

TEST_F(LauncherTest, TheLastTenLinesOfTheDeadRankAreShown) {
  const JobOutcome outcome = Run("crash-tail");
  EXPECT_THAT(Message(outcome.status), AllOf(HasSubstr("killed by signal 15"), HasSubstr("line 29 before the end"),
                                             HasSubstr("line 20 before the end"), Not(HasSubstr("line 19 before"))));
}

TEST_F(LauncherTest, TheExitCodeOfALeaveIsTheJobs) {
  const JobOutcome outcome = Run("diverge");
  EXPECT_EQ(outcome.code, ExitCode::kDiverged);
  EXPECT_THAT(Message(outcome.status), AllOf(HasSubstr("rank 1 of 3"), HasSubstr("step 5"), HasSubstr("the loss is NaN")));
}

TEST_F(LauncherTest, AnErrorWithoutAnExitCodeIsAFailedRank) {
  const JobOutcome outcome = Run("error");
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_THAT(Message(outcome.status), HasSubstr("something broke"));
}

TEST_F(LauncherTest, ALongComputationIsNotDeath) {
  LaunchOptions options = Options("compute");
  options.deadline = seconds(1) * kSlower;
  const JobOutcome outcome = Run(options);
  EXPECT_EQ(outcome.code, ExitCode::kDone) << outcome.status.message();
  EXPECT_GT(took_, options.deadline);
}

TEST_F(LauncherTest, AStalledRankIsNamedThenEnded) {
  LaunchOptions options = Options("stall");
  options.slow = milliseconds(500) * kSlower;
  options.stall = milliseconds(1200) * kSlower;
  options.stop_limit = milliseconds(200);
  const JobOutcome outcome = Run(options);
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_THAT(Message(outcome.status), AllOf(HasSubstr("rank 1 of 3"), HasSubstr("step 5"), HasSubstr("has not advanced for")));
  EXPECT_THAT(notices_, AllOf(HasSubstr("warning: rank 1 of 3"), HasSubstr("has not advanced for")));
  EXPECT_LT(took_, seconds(20) * kSlower);
}

TEST_F(LauncherTest, WhoLeavesWhileOthersNeedItIsNamed) {
  LaunchOptions options = Options("leave-early");
  options.stop_limit = milliseconds(200);
  const JobOutcome outcome = Run(options);
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_THAT(Message(outcome.status), AllOf(HasSubstr("rank 1 of 3"), HasSubstr("left while rank")));
}

TEST_F(LauncherTest, WhoDoesNotJoinIsNamed) {
  LaunchOptions options = Options("never-join");
  options.start_limit = milliseconds(1500) * kSlower;
  options.stop_limit = milliseconds(200);
  const JobOutcome outcome = Run(options);
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_THAT(Message(outcome.status), HasSubstr("rank 1 of 3 did not join within "));
  EXPECT_THAT(Message(Run("fail-before-join").status), HasSubstr("ended with exit code 9 before it joined"));
}

TEST_F(LauncherTest, ARankThatCannotJoinSaysWhyWithItsExitCode) {
  const JobOutcome outcome = Run("set-up-fails");
  EXPECT_EQ(outcome.code, ExitCode::kSetUp);
  EXPECT_EQ(ExitCodeOf(outcome.status, ExitCode::kDone), ExitCode::kSetUp);
  EXPECT_EQ(outcome.culprit, 1);
  EXPECT_THAT(Message(outcome.status),
              AllOf(HasSubstr("rank 1 of 3"), HasSubstr("exit code 4 before it joined"), HasSubstr("rank-1.log:\n    no such data set")));
}

TEST_F(LauncherTest, AWrongTokenIsRefused) {
  const JobOutcome outcome = Run("wrong-token");
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_THAT(Message(outcome.status), AllOf(HasSubstr("before it joined"), HasSubstr("the token is not this job's")));
}

TEST_F(LauncherTest, TheSegmentIsInheritedAndNothingElse) {
  const int segment = memfd_create("test", MFD_CLOEXEC);
  const int leaked = memfd_create("leak", 0);  // a library that forgot O_CLOEXEC
  ASSERT_EQ(ftruncate(segment, 3), 0);
  LaunchOptions options = Options("segment");
  options.segment_fd = segment;
  EXPECT_EQ(Run(options).code, ExitCode::kDone);
  char marks[4] = {};
  EXPECT_EQ(pread(segment, marks, 3, 0), 3);
  EXPECT_STREQ(marks, "abc");
  EXPECT_THAT(events_, HasSubstr(Cat("descriptors 0 1 2 ", segment, " pid")));
  close(segment);
  close(leaked);
}

TEST_F(LauncherTest, ACommandThatIsNotThereIsASetUpError) {
  LaunchOptions options = Options("ok");
  options.command = {"/no/such/program"};
  const auto launcher = Launcher::Start(options);
  EXPECT_EQ(launcher.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ExitCodeOf(launcher.status(), ExitCode::kDone), ExitCode::kSetUp);
  EXPECT_THAT(Message(launcher.status()), AllOf(HasSubstr("/no/such/program"), HasSubstr("Hint")));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/.control"));
}

TEST_F(LauncherTest, ARunDirectoryThatCannotBeMadeIsASetUpError) {
  LaunchOptions options = Options("ok");
  options.run_directory = "/proc/no/such";
  const auto launcher = Launcher::Start(options);
  EXPECT_EQ(ExitCodeOf(launcher.status(), ExitCode::kDone), ExitCode::kSetUp);
  EXPECT_THAT(Message(launcher.status()), HasSubstr("/proc/no/such"));
}

TEST_F(LauncherTest, SignalsAskForAStop) {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    LaunchOptions options = Options("loop");
    options.handle_signals = true;
    bool sent = false;
    options.on_event = [&](int, const std::string&) {
      if (!std::exchange(sent, true)) raise(signal);
    };
    const JobOutcome outcome = Run(options);
    EXPECT_EQ(outcome.code, ExitCode::kStopped) << outcome.status.message();
    EXPECT_THAT(Message(outcome.status), HasSubstr("stopped at step"));
    EXPECT_TRUE(outcome.stopped_by_user);
    EXPECT_THAT(notices_, HasSubstr("note: stopping"));
  }
}

TEST_F(LauncherTest, ASecondInterruptEndsAtOnce) {
  LaunchOptions options = Options("stall", 0);
  options.handle_signals = true;
  int ticks = 0;
  options.on_tick = [&] {
    ++ticks;
    if (ticks == 3 || ticks == 5) raise(SIGINT);
  };
  const JobOutcome outcome = Run(options);
  EXPECT_EQ(outcome.code, ExitCode::kInterrupted);
  EXPECT_FALSE(outcome.status.ok());
  EXPECT_LT(took_, seconds(20) * kSlower);
}

TEST_F(LauncherTest, ClientsAskSaveAndStop) {
  LaunchOptions options = Options("loop");
  options.on_query = [](const std::string& query) { return query == "status" ? "step 7" : ""; };
  std::thread client([&] {
    const auto ask = [&](std::string_view query) { return AskJob(directory_, query, Deadline::In(seconds(20))); };
    EXPECT_TRUE(Within(seconds(20), [&] { return std::filesystem::exists(directory_ + "/.control"); }));
    struct stat control;
    EXPECT_EQ(stat((directory_ + "/.control").c_str(), &control), 0);
    EXPECT_EQ(control.st_mode & 0777, 0600U);
    EXPECT_EQ(ask("status").value_or("?"), "step 7");
    EXPECT_TRUE(ask("save").ok());
    EXPECT_TRUE(ask("save").ok());
    const auto unknown = ask("dance");
    EXPECT_EQ(unknown.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(unknown.status()), HasSubstr("does not understand \"dance\""));
    EXPECT_TRUE(ask("stop").ok());
  });
  const JobOutcome outcome = Run(options);
  client.join();
  EXPECT_EQ(outcome.code, ExitCode::kStopped) << outcome.status.message();
  EXPECT_TRUE(outcome.stopped_by_user);
  EXPECT_THAT(events_, HasSubstr("rank 0: saves 2"));
  const auto late = AskJob(directory_, "status", Deadline::In(seconds(5)));
  EXPECT_EQ(late.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(late.status()), HasSubstr("no job runs there"));
}

TEST_F(LauncherTest, RequestsFromOtherThreadsReachRank0) {
  auto launcher = Launcher::Start(Options("loop"));
  ASSERT_TRUE(launcher.ok()) << launcher.status().message();
  std::thread other([&] {
    (*launcher)->RequestSave();
    (*launcher)->RequestStop();
  });
  const JobOutcome outcome = (*launcher)->Run();
  other.join();
  EXPECT_EQ(outcome.code, ExitCode::kStopped);
  EXPECT_THAT(events_, HasSubstr("rank 0: saves 1"));
}

TEST_F(LauncherTest, NoRankOutlivesALauncherThatIsKilled) {
  LaunchOptions options = Options("");
  options.command = {"sleep", "60"};  // nothing that would end by itself when the coordinator is lost
  const pid_t launcher = fork();
  if (launcher == 0) {
    auto started = Launcher::Start(options);
    if (started.ok()) (void)(*started)->Run();
    _exit(0);
  }
  const std::string table = directory_ + "/processes.json";
  std::vector<pid_t> ranks;
  const auto read_table = [&] {
    ranks.clear();
    const std::string text = Contents(table);
    for (size_t at = text.find("\"pid\":"); at != std::string::npos; at = text.find("\"pid\":", at + 1)) {
      if (const pid_t pid = std::atoi(text.c_str() + at + 6); pid != launcher) ranks.push_back(pid);
    }
    return ranks.size() == 3;
  };
  ASSERT_TRUE(Within(seconds(20), read_table)) << Contents(table);
  for (const pid_t rank : ranks) EXPECT_FALSE(Gone(rank));
  kill(launcher, SIGKILL);
  waitpid(launcher, nullptr, 0);
  for (const pid_t rank : ranks) EXPECT_TRUE(Within(seconds(10), [&] { return Gone(rank); })) << "rank " << rank << " lives on";
}

TEST_F(LauncherTest, ASuspendedJobGoesOnWhereItWas) {
  LaunchOptions options = Options("loop");
  options.handle_signals = true;
  options.deadline = seconds(1) * kSlower;
  const std::string ready = directory_ + "/ready";
  options.on_event = [&](int, const std::string&) { std::ofstream(ready) << "1"; };
  const pid_t launcher = fork();
  if (launcher == 0) {
    auto started = Launcher::Start(options);
    _exit(started.ok() ? static_cast<int>((*started)->Run().code) : 1);
  }
  ASSERT_TRUE(Within(seconds(20), [&] { return std::filesystem::exists(ready); }));
  kill(launcher, SIGTSTP);
  int status = 0;
  ASSERT_EQ(waitpid(launcher, &status, WUNTRACED), launcher);
  ASSERT_TRUE(WIFSTOPPED(status));
  std::this_thread::sleep_for(options.deadline * 5 / 4);
  kill(launcher, SIGCONT);
  std::this_thread::sleep_for(milliseconds(300));
  kill(launcher, SIGTERM);
  ASSERT_EQ(waitpid(launcher, &status, 0), launcher);
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::kStopped));
}

TEST_F(LauncherTest, ADestroyedLauncherLeavesNothingBehind) {
  std::vector<pid_t> pids;
  {
    const auto launcher = Launcher::Start(Options("loop"));
    ASSERT_TRUE(launcher.ok());
    const std::string text = Contents(directory_ + "/processes.json");
    for (size_t at = text.find("\"pid\":"); at != std::string::npos; at = text.find("\"pid\":", at + 1)) {
      if (const pid_t pid = std::atoi(text.c_str() + at + 6); pid != getpid()) pids.push_back(pid);
    }
  }
  ASSERT_EQ(pids.size(), 3U);
  for (const pid_t pid : pids) EXPECT_TRUE(Gone(pid));
}

TEST_F(LauncherTest, LongAndUnfinishedLinesAreShown) {
  LaunchOptions options = Options("ok", 0, 1);
  // Not a rank at all: it prints and exits.
  options.command = {"/bin/sh", "-c", "printf '%09000d\\nend without newline' 1; exit 9"};
  const JobOutcome outcome = Run(options);
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_THAT(output_,
              AllOf(HasSubstr(Cat("rank 0 | ", std::string(8192, '0'), "\nrank 0 | 000")), HasSubstr("rank 0 | end without newline\n")));
  EXPECT_THAT(Message(outcome.status), HasSubstr("end without newline"));
}

TEST_F(LauncherTest, WhatARankStartedEndsWithIt) {
  LaunchOptions options = Options("ok", 0, 1);
  options.command = {"/bin/sh", "-c", "sleep 60 & echo $!; exit 9"};
  EXPECT_EQ(Run(options).code, ExitCode::kRankFailed);
  const pid_t grandchild = std::atoi(output_.c_str() + std::string("rank 0 | ").size());
  ASSERT_GT(grandchild, 0) << output_;
  EXPECT_TRUE(Within(seconds(10), [&] { return Gone(grandchild); }));
}

}  // namespace
}  // namespace dtrain
