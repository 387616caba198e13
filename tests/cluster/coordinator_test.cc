// Goal: each rule of the coordinator, one at a time. Method: the state machine by hand, with a made-up time.
#include "cluster/coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

class CoordinatorTest : public testing::Test {
 protected:
  void Start(int ranks) {
    options_.ranks = ranks;
    machine_.emplace(options_, now_);
  }
  void StartWithAll(int ranks) {
    Start(ranks);
    for (int rank = 0; rank < ranks; ++rank) ASSERT_TRUE(Join(rank).ok());
  }
  Status Join(int rank) { return machine_->Join({.rank = rank, .world_size = options_.ranks, .pid = 100 + rank, .host = "here"}, now_); }
  void Say(int rank, const ControlMessage& message) { machine_->Receive(rank, message, now_); }
  void Beat(int rank, Step step, bool waiting = false) {
    Say(rank, Heartbeat{.step = step, .progress = static_cast<uint64_t>(step + 1), .waiting = waiting});
  }
  // Time passes in ticks of a second.
  void Pass(Duration duration) {
    for (const TimePoint end = now_ + duration; now_ < end;) {
      now_ = std::min(end, now_ + seconds(1));
      machine_->Tick(now_);
    }
  }
  void LeaveOk(int rank) { Say(rank, Leave{.exit_code = 0}); }
  template <typename T>
  std::vector<T> Taken() {
    std::vector<T> found;
    for (Action& action : machine_->TakeActions()) {
      if (auto* it = std::get_if<T>(&action)) found.push_back(std::move(*it));
    }
    return found;
  }
  std::vector<SendTo> SentOf(size_t kind) {
    std::vector<SendTo> sent = Taken<SendTo>();
    std::erase_if(sent, [&](const SendTo& send) { return send.message.index() != kind; });
    return sent;
  }
  std::string Why() const { return machine_->over() ? Message(machine_->outcome()->status) : "(not over)"; }
  ExitCode Code() const { return machine_->over() ? machine_->outcome()->code : ExitCode::kUsage; }

  CoordinatorOptions options_;
  TimePoint now_ = TimePoint(std::chrono::hours(1));
  std::optional<Coordinator> machine_;
};

TEST_F(CoordinatorTest, ARankJoinsOnceWithItsNumber) {
  Start(2);
  EXPECT_TRUE(Join(0).ok());
  EXPECT_THAT(Message(Join(0)), HasSubstr("rank 0 has joined already (pid 100 on here)"));
  EXPECT_THAT(Message(machine_->Join({.rank = 1, .world_size = 3}, now_)), HasSubstr("believes that the job has 3 ranks, it has 2"));
  EXPECT_THAT(Message(machine_->Join({.rank = 2, .world_size = 2}, now_)), HasSubstr("no rank 2 in a job of 2"));
  EXPECT_TRUE(Join(1).ok());
  EXPECT_EQ(machine_->joined(), 2);
  EXPECT_FALSE(machine_->over());
}

TEST_F(CoordinatorTest, WhoDidNotJoinInTimeIsNamed) {
  Start(4);
  ASSERT_TRUE(Join(0).ok());
  ASSERT_TRUE(Join(2).ok());
  for (int i = 0; i < 59; ++i) {
    Pass(seconds(1));
    Beat(0, -1);
    Beat(2, -1);
  }
  EXPECT_FALSE(machine_->over());
  Pass(seconds(1));
  EXPECT_THAT(Why(), HasSubstr("ranks 1, 3 of 4 did not join within 1 min"));
  EXPECT_EQ(Code(), ExitCode::kRankFailed);
  const auto told = SentOf(ControlMessage(Failed{}).index());
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0].rank, 0);
  EXPECT_EQ(told[1].rank, 2);
}

TEST_F(CoordinatorTest, ASilentHeartbeatIsDeathAfterTheDeadlineAndNotBefore) {
  StartWithAll(2);
  Beat(1, 7);
  for (int i = 0; i < 4; ++i) {
    Pass(seconds(1));
    Beat(0, 7);
  }
  EXPECT_FALSE(machine_->over());
  Pass(seconds(1));
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 1 of 2 (pid 101, step 7)"), HasSubstr("silent for 5.0 s")));
  EXPECT_EQ(machine_->outcome()->culprit, 1);
  EXPECT_EQ(Code(), ExitCode::kRankFailed);
}

TEST_F(CoordinatorTest, OurOwnSleepIsNobodysSilence) {
  StartWithAll(2);
  Pass(seconds(1));
  now_ += seconds(3600);
  machine_->Tick(now_);
  Beat(0, 1);
  Beat(1, 1);
  Pass(seconds(1));
  EXPECT_FALSE(machine_->over()) << Why();
  Pass(seconds(4));
  EXPECT_TRUE(machine_->over()) << "after it, silence counts again";
}

TEST_F(CoordinatorTest, AClosedLinkWaitsForTheBetterCause) {
  StartWithAll(2);
  Beat(1, 3);
  machine_->LinkClosed(1, Unavailable("reset"), now_);
  now_ += milliseconds(100);
  machine_->Tick(now_);
  EXPECT_FALSE(machine_->over());
  machine_->ProcessEnded(1, {.signal = SIGKILL}, now_);
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 1 of 2 (pid 101, step 3): killed by signal 9 (SIGKILL)"), HasSubstr("\n  Hint: ")));
}

TEST_F(CoordinatorTest, AClosedLinkAloneIsDeath) {
  StartWithAll(2);
  machine_->LinkClosed(1, Unavailable("reset by peer"), now_);
  now_ += milliseconds(500);
  machine_->Tick(now_);
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 1 of 2"), HasSubstr("connection ended without a last word (reset by peer)")));
}

TEST_F(CoordinatorTest, AProcessThatEndsWithoutAWordIsAFailureWhateverItsExitCode) {
  for (const int code : {0, 1}) {
    StartWithAll(2);
    machine_->ProcessEnded(0, {.exit_code = code}, now_);
    EXPECT_THAT(Why(), HasSubstr(Cat("rank 0 of 2 (pid 100, before its first step): its process ended with exit code ", code,
                                     " without a last word")));
    EXPECT_EQ(Code(), ExitCode::kRankFailed);
  }
  Start(2);
  machine_->ProcessEnded(1, {.exit_code = 127}, now_);
  EXPECT_THAT(Why(), HasSubstr("ended with exit code 127 before it joined"));
  EXPECT_FALSE(Join(1).ok());
}

TEST_F(CoordinatorTest, BeforeARankJoinedItsOwnExitCodeIsTheJobs) {
  for (int code = 0; code < 256; ++code) {
    Start(2);
    machine_->ProcessEnded(1, {.exit_code = code}, now_);
    const bool own = code == 2 || code == 3 || code == 4 || code == 6;
    EXPECT_EQ(static_cast<int>(Code()), own ? code : 5);
    EXPECT_EQ(machine_->outcome()->culprit, 1);
  }
  StartWithAll(2);  // who joined had its last word for that
  machine_->ProcessEnded(1, {.exit_code = 4}, now_);
  EXPECT_EQ(Code(), ExitCode::kRankFailed);
}

TEST_F(CoordinatorTest, WhoIsTurnedAwayIsToldToPeople) {
  Start(2);
  ASSERT_TRUE(Join(0).ok());
  EXPECT_FALSE(machine_->Join({.rank = 1, .world_size = 3, .pid = 7, .host = "there"}, now_).ok());
  const auto notices = Taken<Notice>();
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_EQ(notices[0].level, LogLevel::kWarning);
  EXPECT_THAT(notices[0].text, AllOf(HasSubstr("turned away pid 7 on there"), HasSubstr("the job has 3 ranks, it has 2")));
  for (int i = 0; i < 60; ++i) {
    Beat(0, -1);
    Pass(seconds(1));
  }
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 1 of 2 did not join"), HasSubstr("turned away was pid 7 on there")));
}

TEST_F(CoordinatorTest, TheFirstCauseIsToldAndThereIsOneOutcome) {
  StartWithAll(3);
  machine_->ProcessEnded(2, {.signal = SIGSEGV}, now_);
  const std::string first = Why();
  machine_->ProcessEnded(1, {.exit_code = 5}, now_);
  Say(0, Leave{.status_code = 14, .message = "lost", .exit_code = 5});
  Pass(seconds(100));
  EXPECT_EQ(Why(), first);
  EXPECT_THAT(first, HasSubstr("rank 2 of 3 (pid 102, before its first step): killed by signal 11 (SIGSEGV)"));
  EXPECT_EQ(Taken<Outcome>().size(), 1U);
}

TEST_F(CoordinatorTest, ALeaveEndsTheJobWithItsExitCode) {
  StartWithAll(2);
  Say(1, Leave{.status_code = 9, .message = "loss is NaN", .exit_code = static_cast<int>(ExitCode::kDiverged), .step = 41});
  EXPECT_EQ(Code(), ExitCode::kDiverged);
  EXPECT_EQ(ExitCodeOf(machine_->outcome()->status, ExitCode::kDone), ExitCode::kDiverged);
  EXPECT_THAT(Why(), HasSubstr("rank 1 of 2 (pid 101, step 41): loss is NaN"));
}

TEST_F(CoordinatorTest, WhoGivesUpAnAllGatherIsToldForWhomItWaited) {
  StartWithAll(4);
  Say(1, Gather{"plan", 0, "x"});
  Say(2, Gather{"plan", 0, "x"});
  Say(2, Leave{.status_code = 4, .message = "not all sent their part in time", .exit_code = 5});
  EXPECT_THAT(Why(), HasSubstr("rank 2 of 4 (pid 102, before its first step): not all sent their part in time; "
                               "all-gather \"plan\" still lacked ranks 0, 3"));
}

TEST_F(CoordinatorTest, AnErrorWithoutAnExitCodeIsAFailedRank) {
  StartWithAll(1);
  Say(0, Leave{.status_code = 13, .message = "broken", .exit_code = -1});
  EXPECT_EQ(Code(), ExitCode::kRankFailed);
  StartWithAll(1);
  Say(0, Leave{.status_code = 13, .message = "broken", .exit_code = 0});
  EXPECT_EQ(Code(), ExitCode::kRankFailed) << "an error that claims success";
}

TEST_F(CoordinatorTest, TheJobIsDoneWhenAllHaveLeft) {
  StartWithAll(2);
  LeaveOk(0);
  machine_->LinkClosed(0, Unavailable("closed"), now_);
  machine_->ProcessEnded(0, {}, now_);
  for (int i = 0; i < 20; ++i) {  // silence after the last word is no death
    Pass(seconds(1));
    Beat(1, i);
  }
  EXPECT_FALSE(machine_->over()) << Why();
  LeaveOk(1);
  EXPECT_EQ(Code(), ExitCode::kDone);
  EXPECT_TRUE(machine_->outcome()->status.ok());
}

TEST_F(CoordinatorTest, StoppedRanksLeaveInPeace) {
  StartWithAll(2);
  const Leave stopped{.status_code = 1, .message = "stopped at step 9", .exit_code = 75, .step = 9};
  Say(1, stopped);
  Pass(seconds(4));
  EXPECT_FALSE(machine_->over()) << "rank 0 still writes its checkpoint";
  Say(0, stopped);
  EXPECT_EQ(Code(), ExitCode::kStopped);
  EXPECT_EQ(Why(), "stopped at step 9");
}

TEST_F(CoordinatorTest, ACrashAfterTheLastWordIsANoticeOnly) {
  StartWithAll(2);
  LeaveOk(1);
  machine_->ProcessEnded(1, {.signal = SIGSEGV}, now_);
  const auto notices = Taken<Notice>();
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_THAT(notices[0].text, HasSubstr("killed by signal 11"));
  LeaveOk(0);
  EXPECT_EQ(Code(), ExitCode::kDone);
}

TEST_F(CoordinatorTest, AnAllGatherGoesToAllInOrderOfRanks) {
  StartWithAll(3);
  Say(2, Gather{"t", 0, "c"});
  Say(0, Gather{"t", 0, "a"});
  EXPECT_TRUE(SentOf(ControlMessage(Gathered{}).index()).empty());
  Say(1, Gather{"t", 0, "b"});
  const auto sent = SentOf(ControlMessage(Gathered{}).index());
  ASSERT_EQ(sent.size(), 3U);
  for (const SendTo& send : sent) EXPECT_EQ(std::get<Gathered>(send.message), (Gathered{"t", 0, {"a", "b", "c"}}));
  Say(0, Gather{"t2", 1, "a"});
  EXPECT_FALSE(machine_->over());
}

TEST_F(CoordinatorTest, MismatchedTagsNameBoth) {
  StartWithAll(2);
  Say(1, Gather{"plan", 0, ""});
  Say(0, Gather{"metrics", 0, ""});
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 0 of 2"), HasSubstr("all-gather \"metrics\": rank 1 is in all-gather \"plan\"")));
}

TEST_F(CoordinatorTest, ARepeatedOrSkippedPartIsAnError) {
  StartWithAll(2);
  Say(1, Gather{"plan", 0, ""});
  Say(1, Gather{"plan", 0, ""});
  EXPECT_THAT(Why(), HasSubstr("rank 1 of 2"));
  StartWithAll(2);
  Say(0, Gather{"plan", 3, ""});
  EXPECT_THAT(Why(), HasSubstr("it sent part number 3, the job is at number 0"));
}

TEST_F(CoordinatorTest, WhoLeavesWhileOthersNeedItIsAnError) {
  StartWithAll(2);
  Say(0, Gather{"plan", 0, ""});
  LeaveOk(1);
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 1 of 2"), HasSubstr("left while rank 0 needs it for all-gather \"plan\"")));
  StartWithAll(2);
  LeaveOk(1);
  Say(0, Gather{"plan", 0, ""});
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 1 of 2"), HasSubstr("left while rank 0 needs it for all-gather \"plan\"")));
  StartWithAll(2);
  LeaveOk(1);
  Beat(0, 3, true);
  for (int i = 0; i < 6; ++i) {
    Pass(seconds(1));
    Beat(0, 3, true);
  }
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 1 of 2"), HasSubstr("left while rank 0 still waits for it")));
}

TEST_F(CoordinatorTest, GatheredPartsHaveALimitTogether) {
  StartWithAll(241);  // 240 parts of 64 KiB are 15 MiB
  for (int rank = 0; rank < 240; ++rank) Say(rank, Gather{"big", 0, std::string(kGatherPartBytesMax, 'x')});
  EXPECT_FALSE(machine_->over()) << Why();
  Say(240, Gather{"big", 0, "x"});
  EXPECT_THAT(Why(), HasSubstr("the parts together exceed"));
}

TEST_F(CoordinatorTest, RequestsGoToRank0AndWaitForIt) {
  Start(2);
  ASSERT_TRUE(Join(1).ok());
  machine_->RequestSave();
  machine_->RequestStop();
  EXPECT_TRUE(Taken<SendTo>().empty());
  ASSERT_TRUE(Join(0).ok());
  auto sent = Taken<SendTo>();
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].rank, 0);
  EXPECT_EQ(std::get<Request>(sent[0].message), (Request{true, 1}));
  machine_->RequestStop();
  EXPECT_TRUE(Taken<SendTo>().empty()) << "a second stop is no news";
  machine_->RequestSave();
  sent = Taken<SendTo>();
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(std::get<Request>(sent[0].message), (Request{true, 2}));
}

TEST_F(CoordinatorTest, ASlowRankIsNamedOnceAndEndedAfterTheStall) {
  options_.stall = seconds(60);
  StartWithAll(3);
  int notices = 0;
  Duration named = {};
  for (int second = 1; second <= 100 && !machine_->over(); ++second) {
    Pass(seconds(1));
    Beat(0, 5, true);
    Beat(1, 5, false);
    Beat(2, 5, true);
    for (const Notice& notice : Taken<Notice>()) {
      ++notices;
      named = seconds(second);
      EXPECT_EQ(notice.rank, 1);
      EXPECT_THAT(notice.text, HasSubstr("rank 1 of 3 (pid 101, step 5): it beats but has not advanced for 10.0 s"));
    }
  }
  EXPECT_EQ(notices, 1);
  EXPECT_LE(named, seconds(12));
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 1 of 3"), HasSubstr("has not advanced for 1 min")));
  EXPECT_EQ(Code(), ExitCode::kRankFailed);
}

TEST_F(CoordinatorTest, ALongWorkThatNobodyWaitsForIsNotSlow) {
  options_.stall = seconds(30);
  StartWithAll(2);
  for (int second = 1; second <= 300; ++second) {
    Pass(seconds(1));
    Beat(0, 5);
    Beat(1, 5);
  }
  EXPECT_FALSE(machine_->over()) << Why();
  EXPECT_TRUE(Taken<Notice>().empty());
}

TEST_F(CoordinatorTest, WhoWaitsForAnAllGatherWaits) {
  StartWithAll(2);
  Say(0, Gather{"plan", 0, ""});
  for (int second = 1; second <= 12; ++second) {
    Pass(seconds(1));
    Beat(0, -1);
    Beat(1, -1);
  }
  const auto notices = Taken<Notice>();
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_EQ(notices[0].rank, 1);
}

TEST_F(CoordinatorTest, ADeadlockEndsAfterTheStall) {
  options_.stall = seconds(30);
  StartWithAll(2);
  for (int second = 1; second <= 40; ++second) {
    Pass(seconds(1));
    Beat(0, 5, true);
    Beat(1, 5, true);
  }
  EXPECT_THAT(Why(), HasSubstr("all ranks have waited for one another"));
}

TEST_F(CoordinatorTest, AMessageThatNoRankSendsIsAnError) {
  StartWithAll(2);
  Say(1, Welcome{});
  EXPECT_THAT(Why(), AllOf(HasSubstr("rank 1 of 2"), HasSubstr("sent a Welcome")));
}

}  // namespace
}  // namespace dtrain
