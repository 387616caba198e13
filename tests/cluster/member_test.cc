// Goal: members and the coordinator's server agree on what the job is and how it ends, over links that delay and break.
// Method: all of them in this process, real threads and the real clock over tests/sim/sim_transport.h, by seed.
#include "cluster/member.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "cluster/coordinator_server.h"
#include "tests/sim/sim_transport.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Deadline Soon() { return Deadline::In(seconds(20)); }

// The coordinator of a job, turned by a thread of its own.
class Job {
 public:
  Job(SimTransport& transport, int ranks, Duration deadline) : ranks_(ranks), deadline_(deadline) {
    auto listener = transport.Listen({"sim", 0});
    EXPECT_TRUE(listener.ok());
    address_ = (*listener)->address();
    CoordinatorServerOptions options = {
        .job = {.ranks = ranks, .job_description = "the job", .deadline = deadline, .last_news = milliseconds(50)},
        .token = "secret",
        .on_event = [this](int rank, const std::string& event) { events_.push_back(Cat(rank, ": ", event)); }};
    server_ = std::make_unique<CoordinatorServer>(*std::move(listener), std::move(options));
    thread_ = std::thread([this] {
      while (!end_) {
        server_->Turn(Deadline::In(milliseconds(10)));
        if (stop_.exchange(false)) server_->machine().RequestStop();
        if (save_.exchange(false)) server_->machine().RequestSave();
        over_ = server_->machine().over();
      }
    });
  }
  ~Job() { End(); }
  void End() {
    end_ = true;
    if (thread_.joinable()) thread_.join();
  }
  // Waits for the outcome; the coordinator stands still afterwards.
  Outcome WaitForOutcome() {
    for (const Deadline deadline = Soon(); !over_ && !deadline.Passed();) std::this_thread::sleep_for(milliseconds(1));
    End();
    return server_->machine().over() ? *server_->machine().outcome() : Outcome{Internal("the job is not over"), ExitCode::kUsage, -1};
  }
  JobEnvironment Environment(int rank) const {
    return {.rank = rank, .world_size = ranks_, .coordinator = address_, .token = "secret", .deadline = deadline_};
  }
  void RequestStop() { stop_ = true; }
  void RequestSave() { save_ = true; }
  void Lose() {  // as when the launcher dies
    End();
    server_.reset();
  }
  const std::vector<std::string>& events() const { return events_; }

 private:
  const int ranks_;
  const Duration deadline_;
  Address address_;
  std::vector<std::string> events_;
  std::unique_ptr<CoordinatorServer> server_;
  std::atomic<bool> end_ = false, over_ = false, stop_ = false, save_ = false;
  std::thread thread_;
};

StatusOr<std::unique_ptr<Member>> Join(SimTransport& transport, const JobEnvironment& job) {
  return Member::Join(transport, job, SystemClock(), Soon());
}
// Runs `body` as every rank of the job, each in its thread.
void AsRanks(SimTransport& transport, const Job& job, int ranks, const std::function<void(Member&)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      auto member = Join(transport, job.Environment(rank));
      ASSERT_TRUE(member.ok()) << member.status().message();
      body(**member);
    });
  }
  for (std::thread& thread : threads) thread.join();
}
bool Within(Duration limit, const std::function<bool()>& condition) {
  for (const Deadline deadline = Deadline::In(limit); !condition(); std::this_thread::sleep_for(milliseconds(1))) {
    if (deadline.Passed()) return false;
  }
  return true;
}

TEST(Member, AJobFromJoinToFarewellWhateverTheDelays) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    SimTransport transport({.seed = seed, .delay_max = milliseconds(seed * 2)});
    const int ranks = 1 + static_cast<int>(seed % 4);
    Job job(transport, ranks, seconds(5));
    AsRanks(transport, job, ranks, [&](Member& member) {
      EXPECT_EQ(member.job_description(), "the job");
      for (Step step = 0; step < 10; ++step) {
        member.Advance(step);
        const auto all = member.AllGather("step", Cat(member.rank(), "@", step), Soon());
        ASSERT_TRUE(all.ok()) << all.status().message();
        for (int peer = 0; peer < ranks; ++peer) ASSERT_EQ((*all)[static_cast<size_t>(peer)], Cat(peer, "@", step));
      }
      EXPECT_TRUE(member.Report(Cat("end of ", member.rank())).ok());
      EXPECT_TRUE(member.Health().ok());
      const Status left = member.Leave(OkStatus(), Soon());
      EXPECT_TRUE(left.ok()) << left.message();
      EXPECT_FALSE(member.Leave(OkStatus(), Soon()).ok()) << "left twice";
    });
    const Outcome outcome = job.WaitForOutcome();
    EXPECT_EQ(outcome.code, ExitCode::kDone) << outcome.status.message();
    EXPECT_EQ(job.events().size(), static_cast<size_t>(ranks));
  }
}

TEST(Member, ABrokenLinkEndsTheJobOnEveryRankInTime) {
  int broken = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SimTransport transport({.seed = seed, .delay_max = milliseconds(1), .cut_chance = 0.01});
    constexpr int kRanks = 3;
    Job job(transport, kRanks, milliseconds(300));
    std::atomic<int> failed = 0, unheard = 0;
    const TimePoint start = SystemClock().Now();
    const auto train = [&](int rank) {
      auto member = Join(transport, job.Environment(rank));
      if (!member.ok()) return (void)++failed;  // the link broke while it joined
      for (Step step = 0; step < 30; ++step) {
        (*member)->Advance(step);
        const auto all = (*member)->AllGather("step", "x", Soon());
        if (all.ok()) continue;
        ++failed;
        const Status health = (*member)->Health();
        EXPECT_EQ(ExitCodeOf(health, ExitCode::kDone), ExitCode::kRankFailed) << health.message();
        return (void)(*member)->Leave(health, Soon());
      }
      if (!(*member)->Leave(OkStatus(), Soon()).ok()) ++unheard;  // its last word or the answer was lost
    };
    std::vector<std::thread> threads;
    for (int rank = 0; rank < kRanks; ++rank) threads.emplace_back(train, rank);
    for (std::thread& thread : threads) thread.join();
    EXPECT_LT(SystemClock().Now() - start, seconds(10));
    const Outcome outcome = job.WaitForOutcome();
    // A failure of one is the job's, and the job's is seen by those who were still there.
    if (failed > 0) {
      EXPECT_EQ(outcome.code, ExitCode::kRankFailed) << seed;
    }
    if (outcome.code != ExitCode::kDone) {
      EXPECT_GT(failed + unheard, 0) << seed << ": " << outcome.status.message();
    }
    if (failed > 0) ++broken;
  }
  EXPECT_GT(broken, 5) << "hardly a link broke";
}

TEST(Member, TheDeathOfOneIsTheHealthOfAll) {
  SimTransport transport;
  Job job(transport, 2, seconds(5));
  auto survivor = Join(transport, job.Environment(0));
  auto dead = Join(transport, job.Environment(1));
  ASSERT_TRUE(survivor.ok() && dead.ok());
  (*dead)->Advance(12);
  ASSERT_TRUE((*survivor)->Health().ok());
  std::this_thread::sleep_for(milliseconds(20));
  dead->reset();  // no Leave
  ASSERT_TRUE(Within(seconds(20), [&] { return !(*survivor)->Health().ok(); }));
  const Status health = (*survivor)->Health();
  EXPECT_THAT(Message(health), AllOf(HasSubstr("rank 1 of 2"), HasSubstr("without a last word")));
  EXPECT_EQ(ExitCodeOf(health, ExitCode::kDone), ExitCode::kRankFailed);
  const auto all = (*survivor)->AllGather("late", "x", Soon());
  EXPECT_THAT(Message(all.status()), AllOf(HasSubstr("all-gather \"late\""), HasSubstr("rank 1 of 2")));
  EXPECT_TRUE((*survivor)->Leave(health, Soon()).ok());
}

TEST(Member, AFailureCarriesTheJobsExitCode) {
  SimTransport transport;
  Job job(transport, 2, seconds(5));
  auto other = Join(transport, job.Environment(0));
  auto diverged = Join(transport, job.Environment(1));
  ASSERT_TRUE(other.ok() && diverged.ok());
  EXPECT_TRUE((*diverged)->Leave(WithExitCode(OutOfRange("loss is NaN"), ExitCode::kDiverged), Soon()).ok());
  ASSERT_TRUE(Within(seconds(20), [&] { return !(*other)->Health().ok(); }));
  EXPECT_EQ(ExitCodeOf((*other)->Health(), ExitCode::kDone), ExitCode::kDiverged);
  EXPECT_EQ(job.WaitForOutcome().code, ExitCode::kDiverged);
}

TEST(Member, ALostCoordinatorIsSeenByAllThatWait) {
  SimTransport transport;
  auto job = std::make_unique<Job>(transport, 2, seconds(5));
  auto member = Join(transport, job->Environment(0));
  ASSERT_TRUE(member.ok());
  std::thread loser([&] {
    std::this_thread::sleep_for(milliseconds(20));
    job->Lose();
  });
  const auto all = (*member)->AllGather("never", "x", Soon());
  loser.join();
  EXPECT_EQ(all.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message((*member)->Health()), HasSubstr("lost the coordinator"));
  EXPECT_EQ(ExitCodeOf((*member)->Health(), ExitCode::kDone), ExitCode::kRankFailed);
  EXPECT_EQ((*member)->Leave(OkStatus(), Soon()).code(), StatusCode::kUnavailable);
}

TEST(Member, ASilentCoordinatorIsLostAfterTheDeadline) {
  SimTransport transport;
  Job job(transport, 2, milliseconds(300));
  auto member = Join(transport, job.Environment(0));
  ASSERT_TRUE(member.ok());
  std::this_thread::sleep_for(milliseconds(400));
  EXPECT_TRUE((*member)->Health().ok()) << "it beats, so it is there";
  const TimePoint muted = SystemClock().Now();
  transport.Mute();
  ASSERT_TRUE(Within(seconds(20), [&] { return !(*member)->Health().ok(); }));
  EXPECT_GE(SystemClock().Now() - muted, milliseconds(200));
  EXPECT_LT(SystemClock().Now() - muted, seconds(3));
  EXPECT_THAT(Message((*member)->Health()), HasSubstr("has been silent for"));
  // And the coordinator says the same of the rank.
  EXPECT_THAT(Message(job.WaitForOutcome().status), AllOf(HasSubstr("rank 0 of 2"), HasSubstr("silent for")));
}

TEST(Member, JoinWaitsForACoordinatorThatIsNotThereYet) {
  SimTransport transport;
  std::unique_ptr<Job> job;
  JobEnvironment environment = {.coordinator = {"sim", 40'000}, .token = "secret"};
  std::thread late([&] {
    std::this_thread::sleep_for(milliseconds(100));
    job = std::make_unique<Job>(transport, 1, seconds(5));  // takes the first free port, 40000
  });
  const auto member = Join(transport, environment);
  late.join();
  EXPECT_TRUE(member.ok()) << member.status().message();
}

TEST(Member, JoinGivesUpAtItsDeadlineAndSaysWhere) {
  SimTransport transport;
  const JobEnvironment environment = {.coordinator = {"nowhere", 1}, .token = "secret"};
  const auto member = Member::Join(transport, environment, SystemClock(), Deadline::In(milliseconds(120)));
  EXPECT_EQ(member.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(member.status()), HasSubstr("rank 0 of 1: join the job at nowhere:1"));
}

TEST(Member, JoinIsRefusedWithTheReason) {
  SimTransport transport;
  Job job(transport, 2, seconds(5));
  const auto refusal = [&](const JobEnvironment& environment) {
    const auto member = Join(transport, environment);
    EXPECT_EQ(member.status().code(), StatusCode::kPermissionDenied);
    return Message(member.status());
  };
  JobEnvironment environment = job.Environment(1);
  environment.token = "guessed";
  EXPECT_THAT(refusal(environment), HasSubstr("the token is not this job's"));
  environment = job.Environment(1);
  environment.world_size = 3;
  EXPECT_THAT(refusal(environment), HasSubstr("the job has 3 ranks, it has 2"));
  const auto first = Join(transport, job.Environment(1));
  ASSERT_TRUE(first.ok());
  EXPECT_THAT(refusal(job.Environment(1)), HasSubstr("rank 1 has joined already"));
}

TEST(Member, RequestsReachRank0Alone) {
  SimTransport transport;
  Job job(transport, 2, seconds(5));
  auto rank0 = Join(transport, job.Environment(0));
  auto rank1 = Join(transport, job.Environment(1));
  ASSERT_TRUE(rank0.ok() && rank1.ok());
  EXPECT_FALSE((*rank0)->requests().stop);
  job.RequestSave();
  EXPECT_TRUE(Within(seconds(20), [&] { return (*rank0)->requests().saves == 1; }));
  job.RequestStop();
  EXPECT_TRUE(Within(seconds(20), [&] { return (*rank0)->requests().stop; }));
  EXPECT_EQ((*rank0)->requests().saves, 1);
  EXPECT_FALSE((*rank1)->requests().stop);
}

TEST(Member, LimitsAreRefusedAtOnceAndHurtNobody) {
  SimTransport transport;
  Job job(transport, 1, seconds(5));
  auto member = Join(transport, job.Environment(0));
  ASSERT_TRUE(member.ok());
  EXPECT_EQ((*member)->AllGather("big", std::string(kGatherPartBytesMax + 1, 'x'), Soon()).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ((*member)->AllGather("", "x", Soon()).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ((*member)->Report(std::string(kControlTextBytesMax + 1, 'x')).code(), StatusCode::kInvalidArgument);
  const std::string largest(kGatherPartBytesMax, 'x');
  EXPECT_THAT((*member)->AllGather("largest", largest, Soon()).value(), ElementsAre(largest));
  EXPECT_TRUE((*member)->Leave(OkStatus(), Soon()).ok());
}

TEST(Member, AnAllGatherThatNobodyJoinsEndsAtItsDeadline) {
  SimTransport transport;
  Job job(transport, 2, seconds(5));
  auto member = Join(transport, job.Environment(0));
  ASSERT_TRUE(member.ok());
  EXPECT_EQ((*member)->AllGather("alone", "x", Deadline::In(milliseconds(30))).status().code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ((*member)->AllGather("again", "x", Soon()).status().code(), StatusCode::kFailedPrecondition);
}

TEST(Member, ReportsAreBoundedAndDoNotBlock) {
  SimTransport transport({.queued_bytes_max = 1 << 20});
  auto listener = transport.Listen({"sim", 0});
  ASSERT_TRUE(listener.ok());
  // A coordinator that lets the rank in and then never reads.
  CoordinatorServerOptions options = {.job = {.ranks = 1, .deadline = seconds(60)}, .token = "secret"};
  const Address address = (*listener)->address();
  CoordinatorServer server(*std::move(listener), std::move(options));
  std::atomic<bool> in = false;
  std::thread turns([&] {
    while (!in) server.Turn(Deadline::In(milliseconds(5)));
  });
  auto member = Join(transport, {.coordinator = address, .token = "secret"});
  in = true;
  turns.join();
  ASSERT_TRUE(member.ok());
  Status status;
  Duration longest = {};
  // The server's queue, the link and the outbox fill in turn.
  for (int i = 0; i < 10'000 && status.ok(); ++i) {
    const TimePoint start = SystemClock().Now();
    status = (*member)->Report(std::string(kControlTextBytesMax, 'x'));
    longest = std::max(longest, SystemClock().Now() - start);
  }
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.message();
  EXPECT_LT(longest, seconds(1));
}

}  // namespace
}  // namespace dtrain
