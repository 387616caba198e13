// Goal: ranks that were started by hand become one job, or each of them hears in time why not; and the job ends with one
// outcome, as a launcher's does. Method: ranks as threads over TCP, rank 0's with the coordinator; faults one at a time.
#include "cluster/hosted_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "base/digest.h"
#include "cluster/job_client.h"
#include "cluster/run_files.h"
#include "cluster/tcp_transport.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

#ifdef DTRAIN_SANITIZED
constexpr int kSlower = 6;
#else
constexpr int kSlower = 1;
#endif

Deadline Soon() { return Deadline::In(seconds(20) * kSlower); }

std::string Contents(const std::string& path) {
  std::ifstream file(path);
  return (std::ostringstream() << file.rdbuf()).str();
}

bool Within(Duration limit, const std::function<bool()>& condition) {
  for (const Deadline deadline = Deadline::In(limit); !condition(); std::this_thread::sleep_for(milliseconds(2))) {
    if (deadline.Passed()) return false;
  }
  return true;
}

// A port that was free a moment ago.
uint16_t FreePort() {
  TcpTransport transport;
  return (*transport.Listen({"127.0.0.1", 0}))->address().port;
}

class HostedJobTest : public testing::Test {
 protected:
  void SetUp() override { directory_ = Cat(testing::TempDir(), "/dtrain-hosted-", Hex(SecureRandom()).substr(0, 12)); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  Rendezvous As(int rank, int world_size = 3) {
    return {.address = {"127.0.0.1", port_}, .rank = rank, .world_size = world_size, .token = token_, .run_directory = directory_};
  }
  JobOptions Options() {
    JobOptions options;
    options.job_description = "train this";
    options.deadline = seconds(20);
    options.stop_limit = milliseconds(200);
    options.handle_signals = false;
    options.on_event = [this](int rank, const std::string& event) { Note(Cat("event of ", rank, ": ", event)); };
    options.on_notice = [this](LogLevel level, const std::string& text) {
      Note(Cat(level == LogLevel::kWarning ? "warning: " : "note: ", text));
    };
    options.on_tick = [this] { ++ticks_; };
    options.on_query = [](const std::string& query) { return query == "status" ? "step 7" : ""; };
    return options;
  }
  StatusOr<std::unique_ptr<Member>> JoinAs(int rank, int world_size = 3) {
    return JoinRendezvous(transport_, As(rank, world_size), SystemClock(), Soon());
  }
  // Rank 0's process: holds the job, joins it, trains, leaves, waits.
  JobOutcome RunRank0(const JobOptions& options, const std::function<Status(Member&)>& train, int world_size = 3) {
    auto host = HostedJob::Start(As(0, world_size), options);
    EXPECT_TRUE(host.ok()) << host.status();
    if (!host.ok()) return {ExitCode::kUsage, host.status()};
    auto member = Member::Join(transport_, (*host)->job(), SystemClock(), Soon());
    EXPECT_TRUE(member.ok()) << member.status();
    if (member.ok()) (void)(*member)->Leave(train(**member), Soon());
    return (*host)->Wait(Soon());
  }
  // Some steps together; ends as ranks do.
  static Status Train(Member& member) {
    for (Step step = 0; step < 5; ++step) {
      member.Advance(step);
      const auto all = member.AllGather("step", Cat(member.rank(), "@", step), Soon());
      if (!all.ok()) return member.Health().ok() ? all.status() : member.Health();
      for (int peer = 0; peer < member.world_size(); ++peer) EXPECT_EQ((*all)[static_cast<size_t>(peer)], Cat(peer, "@", step));
    }
    return OkStatus();
  }
  // Until rank 0 heard of a stop.
  static Status TrainUntilStopped(Member& member) {
    for (Step step = 0;; ++step) {
      member.Advance(step);
      const Requests requests = member.requests();
      const auto all = member.AllGather("stop", Cat(requests.stop ? 1 : 0, " ", requests.saves), Soon());
      if (!all.ok()) return all.status();
      if (all->front().starts_with("1")) return WithExitCode(Cancelled("stopped, saves ", all->front()), ExitCode::kStopped);
      std::this_thread::sleep_for(milliseconds(2));
    }
  }
  std::thread Beside(int rank, std::function<Status(Member&)> train, int world_size = 3) {
    return std::thread([this, rank, train = std::move(train), world_size] {
      auto member = JoinAs(rank, world_size);
      ASSERT_TRUE(member.ok()) << member.status();
      EXPECT_EQ((*member)->job_description(), "train this");
      (void)(*member)->Leave(train(**member), Soon());
    });
  }
  void Note(const std::string& line) {
    const std::lock_guard lock(mutex_);
    said_ += Cat(line, "\n");
  }
  std::string said() {
    const std::lock_guard lock(mutex_);
    return said_;
  }

  const uint16_t port_ = FreePort();
  std::string directory_, token_;
  TcpTransport transport_;
  std::atomic<int> ticks_ = 0;

 private:
  std::mutex mutex_;
  std::string said_;
};

TEST_F(HostedJobTest, RanksInAnyOrderOfStartBecomeOneJob) {
  for (const char* token : {"", "a token from the environment"}) {
    token_ = token;
    std::thread rank2 = Beside(2, Train);  // before rank 0 is there
    std::this_thread::sleep_for(milliseconds(120));
    std::thread rank1;
    const JobOutcome outcome = RunRank0(Options(), [&](Member& member) {
      rank1 = Beside(1, Train);
      EXPECT_EQ(Contents(directory_ + "/.control").empty(), false);
      struct stat control;
      EXPECT_EQ(stat((directory_ + "/.control").c_str(), &control), 0);
      EXPECT_EQ(control.st_mode & 0777, 0600U);
      EXPECT_TRUE(member.Report("hello").ok());
      return Train(member);
    });
    rank1.join();
    rank2.join();
    EXPECT_EQ(outcome.code, ExitCode::kDone) << outcome.status;
    EXPECT_TRUE(outcome.status.ok());
    EXPECT_FALSE(outcome.stopped_by_user);
    EXPECT_THAT(said(), HasSubstr("event of 0: hello"));
    EXPECT_GT(ticks_, 0);
    EXPECT_FALSE(std::filesystem::exists(directory_ + "/.control"));
    const std::string table = Contents(directory_ + "/processes.json");
    for (int rank = 0; rank < 3; ++rank) EXPECT_THAT(table, HasSubstr(Cat("\"number\": ", rank)));
    EXPECT_THAT(table,
                AllOf(HasSubstr(Cat("\"pid\": ", getpid())), HasSubstr("\"role\": \"rank\""), HasSubstr("\"ended\": \"left the job\"")));
  }
}

TEST_F(HostedJobTest, ARankThatNeverComesIsNamedToAll) {
  JobOptions options = Options();
  options.start_limit = seconds(1) * kSlower;
  std::thread rank1 = Beside(1, [](Member& member) {
    const Status trained = Train(member);
    EXPECT_THAT(Message(trained), HasSubstr("rank 2 of 3 did not join within"));
    return trained;
  });
  const JobOutcome outcome = RunRank0(options, Train);
  rank1.join();
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_EQ(outcome.culprit, 2);
  EXPECT_THAT(Message(outcome.status), HasSubstr("rank 2 of 3 did not join within"));
}

TEST_F(HostedJobTest, TwoProcessesWithOneNumberAndAWrongWorldAreTurnedAway) {
  std::thread rank2;
  const JobOutcome outcome = RunRank0(Options(), [&](Member& member) {
    auto rank1 = JoinAs(1);
    EXPECT_TRUE(rank1.ok()) << rank1.status();
    const auto twin = JoinAs(1);
    EXPECT_EQ(twin.status().code(), StatusCode::kPermissionDenied);
    EXPECT_THAT(Message(twin.status()), HasSubstr(Cat("rank 1 has joined already (pid ", getpid())));
    const auto other_world = JoinAs(2, 4);
    EXPECT_THAT(Message(other_world.status()), HasSubstr("rank 2 believes that the job has 4 ranks, it has 3"));
    EXPECT_TRUE(Within(seconds(10), [&] { return said().find("warning: turned away pid") != std::string::npos; }));
    // The job was not disturbed.
    rank2 = Beside(2, Train);
    std::thread rank1_trains([&] { (void)(*rank1)->Leave(Train(**rank1), Soon()); });
    const Status trained = Train(member);
    rank1_trains.join();
    return trained;
  });
  rank2.join();
  EXPECT_EQ(outcome.code, ExitCode::kDone) << outcome.status;
  EXPECT_THAT(said(), AllOf(HasSubstr("rank 1 has joined already"), HasSubstr("believes that the job has 4 ranks")));
}

TEST_F(HostedJobTest, ADeadRankEndsTheJob) {
  std::thread rank1 = Beside(1, Train);
  std::thread rank2([&] {
    auto member = JoinAs(2);
    ASSERT_TRUE(member.ok()) << member.status();
    (void)(*member)->AllGather("step", "2@0", Soon());
  });
  const JobOutcome outcome = RunRank0(Options(), Train);
  rank1.join();
  rank2.join();
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_EQ(outcome.culprit, 2);
  EXPECT_THAT(Message(outcome.status), AllOf(HasSubstr("rank 2 of 3"), HasSubstr("connection ended without a last word")));
}

TEST_F(HostedJobTest, AnErrorOfARankIsTheJobsWithItsExitCode) {
  std::thread rank1 = Beside(1, [](Member& member) {
    EXPECT_TRUE(member.AllGather("step", "1@0", Soon()).ok());  // all are in
    return WithExitCode(OutOfRange("the loss is NaN"), ExitCode::kDiverged);
  });
  std::thread rank2 = Beside(2, Train);
  const JobOutcome outcome = RunRank0(Options(), Train);
  rank1.join();
  rank2.join();
  EXPECT_EQ(outcome.code, ExitCode::kDiverged);
  EXPECT_THAT(Message(outcome.status), AllOf(HasSubstr("rank 1 of 3"), HasSubstr("the loss is NaN")));
}

TEST_F(HostedJobTest, WhoDoesNotLeaveIsNamedWhenRank0HasWaitedLongEnough) {
  auto host = HostedJob::Start(As(0), Options());
  ASSERT_TRUE(host.ok()) << host.status();
  auto rank1 = JoinAs(1);
  ASSERT_TRUE(rank1.ok());
  const TimePoint start = SystemClock().Now();
  const JobOutcome outcome = (*host)->Wait(Deadline::In(milliseconds(200)));
  EXPECT_EQ(outcome.code, ExitCode::kRankFailed);
  EXPECT_THAT(Message(outcome.status), HasSubstr("ranks 0, 1, 2 of 3 had not left it"));
  EXPECT_LT(SystemClock().Now() - start, seconds(5) * kSlower);
  EXPECT_TRUE(Within(seconds(10), [&] { return !(*rank1)->Health().ok(); })) << "it is told";
}

TEST_F(HostedJobTest, WithoutAWaitTheOthersAreToldToo) {
  std::unique_ptr<Member> rank1;
  {
    auto host = HostedJob::Start(As(0), Options());
    ASSERT_TRUE(host.ok()) << host.status();
    auto joined = JoinAs(1);
    ASSERT_TRUE(joined.ok());
    rank1 = *std::move(joined);
  }
  EXPECT_TRUE(Within(seconds(10), [&] { return !rank1->Health().ok(); }));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/.control"));
}

TEST_F(HostedJobTest, AnotherJobsRanksDoNotMixIn) {
  const JobOutcome outcome = RunRank0(
      Options(),
      [&](Member&) {
        // The same user, address, number and world size, but another run directory: with nothing in it, then with what a
        // killed job left there.
        Rendezvous other = As(1, 2);
        other.run_directory = directory_ + "/other";
        const auto join = [&] { return JoinRendezvous(transport_, other, SystemClock(), Deadline::In(milliseconds(250))).status(); };
        const Status empty = join();
        EXPECT_EQ(empty.code(), StatusCode::kDeadlineExceeded);
        EXPECT_THAT(Message(empty), AllOf(HasSubstr("rank 1 of 2"), HasSubstr("/other/.control does not exist"), HasSubstr("Hint")));
        std::filesystem::create_directories(other.run_directory);
        EXPECT_TRUE(WriteControlFile(other.run_directory, {other.address, "the token of a job of yesterday"}).ok());
        const Status stale = join();
        EXPECT_EQ(stale.code(), StatusCode::kPermissionDenied);
        EXPECT_THAT(Message(stale), HasSubstr(Cat("the job at 127.0.0.1:", port_, " does not run in ", other.run_directory)));
        EXPECT_TRUE(WriteControlFile(other.run_directory, {{"127.0.0.1", 1}, "x"}).ok());
        EXPECT_THAT(Message(join()), HasSubstr("/other is at 127.0.0.1:1"));
        return Internal("enough");
      },
      2);
  EXPECT_THAT(Message(outcome.status), HasSubstr("enough"));
}

TEST_F(HostedJobTest, AStaleControlFileIsReadAgainUntilTheRealOneIsThere) {
  std::filesystem::create_directories(directory_);
  ASSERT_TRUE(WriteControlFile(directory_, {{"127.0.0.1", port_}, "of a job that was killed"}).ok());
  std::thread rank1 = Beside(1, Train, 2);
  std::this_thread::sleep_for(milliseconds(150));
  EXPECT_EQ(RunRank0(Options(), Train, 2).code, ExitCode::kDone);
  rank1.join();
}

TEST_F(HostedJobTest, AWrongTokenIsRefusedWithTheReason) {
  token_ = "the token of this job";
  auto host = HostedJob::Start(As(0, 2), Options());
  ASSERT_TRUE(host.ok()) << host.status();
  token_ = "the token of another";
  const auto joined = JoinAs(1, 2);
  EXPECT_EQ(joined.status().code(), StatusCode::kPermissionDenied);
  EXPECT_THAT(Message(joined.status()), AllOf(HasSubstr("the token is not this job's"), HasSubstr("Hint")));
}

TEST_F(HostedJobTest, NobodyThereIsSaidByTheDeadline) {
  token_ = "the token of this job";
  const auto joined = JoinRendezvous(transport_, As(1), SystemClock(), Deadline::In(milliseconds(200)));
  EXPECT_EQ(joined.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(joined.status()), AllOf(HasSubstr(Cat("join the job at 127.0.0.1:", port_)), HasSubstr("is it started")));
}

TEST_F(HostedJobTest, AnUnknownHostIsNamed) {
  Rendezvous nowhere = As(1);
  nowhere.token = "the token of this job";
  nowhere.address.host = "no-such-host.invalid";
  const auto joined = JoinRendezvous(transport_, nowhere, SystemClock(), Soon());
  EXPECT_EQ(joined.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(joined.status()), AllOf(HasSubstr("rank 1 of 3: join the job: "), HasSubstr("no-such-host.invalid")));
}

TEST_F(HostedJobTest, WhatCannotBeHeldIsASetUpError) {
  auto first = HostedJob::Start(As(0), Options());
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string control = Contents(directory_ + "/.control");
  const auto second = HostedJob::Start(As(0), Options());
  EXPECT_EQ(second.status().code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(ExitCodeOf(second.status(), ExitCode::kDone), ExitCode::kSetUp);
  EXPECT_THAT(Message(second.status()), AllOf(HasSubstr("hold the job's rendezvous"), HasSubstr("port is taken"), HasSubstr("Hint")));
  EXPECT_EQ(Contents(directory_ + "/.control"), control) << "the first job's file is still there";
  Rendezvous elsewhere = As(0);
  elsewhere.address = {"203.0.113.9", 29500};
  EXPECT_THAT(Message(HostedJob::Start(elsewhere, Options()).status()), HasSubstr("is another host"));
  Rendezvous nowhere = As(0);
  nowhere.address.port = 0;
  nowhere.run_directory = "/proc/no/such";
  EXPECT_THAT(Message(HostedJob::Start(nowhere, Options()).status()), HasSubstr("/proc/no/such"));
  EXPECT_EQ(HostedJob::Start(As(1), Options()).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(HostedJobTest, ClientsAndTheOtherRanksAskForAStop) {
  for (const bool by_client : {true, false}) {
    std::thread rank1 = Beside(
        1,
        [&](Member& member) {
          EXPECT_TRUE(by_client || member.RequestStop().ok());
          return TrainUntilStopped(member);
        },
        2);
    std::thread client;
    const JobOutcome outcome = RunRank0(
        Options(),
        [&](Member& member) {
          if (by_client) {
            client = std::thread([&] {
              EXPECT_EQ(AskJob(directory_, "status", Soon()).value_or("?"), "step 7");
              EXPECT_TRUE(AskJob(directory_, "save", Soon()).ok());
              EXPECT_EQ(AskJob(directory_, "dance", Soon()).status().code(), StatusCode::kInvalidArgument);
              EXPECT_TRUE(AskJob(directory_, "stop", Soon()).ok());
            });
          }
          return TrainUntilStopped(member);
        },
        2);
    rank1.join();
    if (client.joinable()) client.join();
    EXPECT_EQ(outcome.code, ExitCode::kStopped) << outcome.status;
    EXPECT_TRUE(outcome.stopped_by_user);
    EXPECT_THAT(Message(outcome.status), HasSubstr(by_client ? "saves 1 1" : "saves 1 0"));
    EXPECT_THAT(said(), HasSubstr(by_client ? "note: stopping: the job was asked" : "was asked to stop by a signal"));
  }
}

TEST_F(HostedJobTest, SignalsAskForAStop) {
  JobOptions options = Options();
  options.handle_signals = true;
  const JobOutcome outcome = RunRank0(
      options,
      [](Member& member) {
        raise(SIGTERM);
        return TrainUntilStopped(member);
      },
      1);
  EXPECT_EQ(outcome.code, ExitCode::kStopped) << outcome.status;
  const JobOutcome interrupted = RunRank0(
      options,
      [](Member& member) {
        raise(SIGINT);
        std::this_thread::sleep_for(milliseconds(5));
        raise(SIGINT);
        EXPECT_TRUE(Within(seconds(10), [&] { return !member.Health().ok(); }));
        return member.Health();
      },
      1);
  EXPECT_EQ(interrupted.code, ExitCode::kInterrupted);
}

TEST_F(HostedJobTest, ASignalToAnotherRankStopsTheWholeJobAndASecondInterruptOnlyThatRank) {
  // As processes: a signal is for a process.
  const auto child = [&](bool twice) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    TcpTransport transport;
    auto member = JoinRendezvous(transport, As(1, 2), SystemClock(), Soon());
    if (!member.ok()) _exit(1);
    auto watch = StopBySignal::Start(**member);
    if (!watch.ok()) _exit(1);
    raise(twice ? SIGINT : SIGUSR1);
    if (twice) raise(SIGINT);
    const Status trained = TrainUntilStopped(**member);
    (void)(*member)->Leave(trained, Soon());
    _exit(static_cast<int>(ExitCodeOf(trained, ExitCode::kRankFailed)));
  };
  int status = 0;
  pid_t pid = child(false);
  const JobOutcome stopped = RunRank0(Options(), TrainUntilStopped, 2);
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(ExitCode::kStopped)) << status;
  EXPECT_EQ(stopped.code, ExitCode::kStopped) << stopped.status;
  pid = child(true);
  const JobOutcome ended = RunRank0(Options(), TrainUntilStopped, 2);
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << status;
  EXPECT_EQ(ended.code, ExitCode::kRankFailed) << ended.status;
}

// --- What a user gives.

class RendezvousTest : public testing::Test {
 protected:
  void SetUp() override { TearDown(); }
  void TearDown() override {
    unsetenv("DTRAIN_TOKEN");
    unsetenv("DTRAIN_TOKEN_FILE");
    std::filesystem::remove(file_);
  }
  void WriteFile(const std::string& text, mode_t mode) {
    std::ofstream(file_) << text;
    ASSERT_EQ(chmod(file_.c_str(), mode), 0);
    setenv("DTRAIN_TOKEN_FILE", file_.c_str(), 1);
  }
  const std::string file_ = Cat(testing::TempDir(), "/dtrain-token-", getpid());
};

TEST_F(RendezvousTest, TheTokenIsTakenFromTheEnvironmentOnceOrFromAFile) {
  EXPECT_EQ(TokenFromEnvironment().value_or("?"), "");
  setenv("DTRAIN_TOKEN", "0123456789abcdef", 1);
  EXPECT_EQ(TokenFromEnvironment().value_or("?"), "0123456789abcdef");
  EXPECT_EQ(getenv("DTRAIN_TOKEN"), nullptr) << "a child would inherit it";
  WriteFile("  fedcba9876543210\n", 0640);
  EXPECT_EQ(TokenFromEnvironment().value_or("?"), "fedcba9876543210");
  setenv("DTRAIN_TOKEN", "0123456789abcdef", 1);
  EXPECT_THAT(Message(TokenFromEnvironment().status()), HasSubstr(Cat("both DTRAIN_TOKEN and DTRAIN_TOKEN_FILE (", file_, ") are set")));
}

TEST_F(RendezvousTest, AWeakOrOpenTokenIsRefused) {
  setenv("DTRAIN_TOKEN", "0123456789abcde", 1);
  EXPECT_THAT(Message(TokenFromEnvironment().status()),
              AllOf(HasSubstr("has 15 characters, expected at least 16"), HasSubstr("openssl rand")));
  WriteFile("0123456789abcdef", 0644);
  EXPECT_THAT(Message(TokenFromEnvironment().status()), AllOf(HasSubstr("every user of this machine can read it"), HasSubstr("chmod 600")));
  WriteFile("", 0600);
  EXPECT_THAT(Message(TokenFromEnvironment().status()), HasSubstr("has 0 characters"));
  WriteFile(std::string(5000, 'x'), 0600);
  EXPECT_THAT(Message(TokenFromEnvironment().status()), HasSubstr("more than 4096 bytes"));
  std::filesystem::remove(file_);
  EXPECT_THAT(Message(TokenFromEnvironment().status()), AllOf(HasSubstr(file_), HasSubstr("No such file")));
  setenv("DTRAIN_TOKEN_FILE", "/tmp", 1);
  EXPECT_THAT(Message(TokenFromEnvironment().status()), HasSubstr("it is no file"));
}

TEST_F(RendezvousTest, OnlyLoopbackGoesWithoutAToken) {
  const auto local = MakeRendezvous("127.0.0.1:29500", 1, 2, "runs/a");
  ASSERT_TRUE(local.ok()) << local.status();
  EXPECT_EQ(local->token, "");
  EXPECT_EQ(local->address.port, 29500);
  const auto open = MakeRendezvous("node1:29500", 1, 2, "runs/a");
  EXPECT_EQ(open.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(ExitCodeOf(open.status(), ExitCode::kDone), ExitCode::kUsage);
  EXPECT_THAT(Message(open.status()), AllOf(HasSubstr("node1:29500"), HasSubstr("no token"), HasSubstr("DTRAIN_TOKEN_FILE")));
  setenv("DTRAIN_TOKEN", "0123456789abcdef", 1);
  const auto closed = MakeRendezvous("node1:29500", 1, 2, "runs/a", "eth1");
  ASSERT_TRUE(closed.ok()) << closed.status();
  EXPECT_EQ(closed->token, "0123456789abcdef");
  EXPECT_EQ(closed->interface, "eth1");
}

TEST_F(RendezvousTest, WrongNumbersAndAddressesAreNamed) {
  EXPECT_THAT(Message(MakeRendezvous("localhost:1", 2, 2, "r").status()), HasSubstr("--rank 2: expected 0 to 1, since --world is 2"));
  EXPECT_THAT(Message(MakeRendezvous("localhost:1", -1, 2, "r").status()), HasSubstr("--rank -1"));
  EXPECT_THAT(Message(MakeRendezvous("localhost:1", 0, 0, "r").status()), HasSubstr("--world 0"));
  EXPECT_THAT(Message(MakeRendezvous("localhost", 0, 1, "r").status()), HasSubstr("--rendezvous: \"localhost\" is no address"));
  EXPECT_EQ(ExitCodeOf(MakeRendezvous("localhost", 0, 1, "r").status(), ExitCode::kDone), ExitCode::kUsage);
}

}  // namespace
}  // namespace dtrain
