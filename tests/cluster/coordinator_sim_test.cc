// Goal: whatever happens in whatever order, a job has one outcome, the right one, in time. Method: ranks as scripts in
// virtual time, by seed: random paces, message delays, AllGathers, a launcher that sleeps, a request, and in two of three
// runs one fault of one rank. The script knows what it did, which is the oracle for what the coordinator must say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <map>
#include <queue>

#include "base/rng.h"
#include "cluster/coordinator.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

enum class Fault { kNone, kKilled, kExits, kLinkCut, kFrozen, kStalls, kNeverJoins, kWrongTag, kLeavesEarly, kDiverges, kCount };

constexpr Duration kBeat = seconds(1);
constexpr Duration kDelayMax = milliseconds(200);

// One run. Events are (time, what); everything random comes from `rng`.
class Simulation {
 public:
  explicit Simulation(uint64_t seed) : rng_(seed, RngPurpose::kSynthetic), ranks_(1 + rng_.Below(5)) {
    options_.ranks = static_cast<int>(ranks_.size());
    options_.stall = seconds(30);
    steps_ = static_cast<Step>(3 + rng_.Below(10));
    if (rng_.Below(3) > 0) {
      fault_ = static_cast<Fault>(1 + rng_.Below(static_cast<uint64_t>(Fault::kCount) - 1));
      culprit_ = static_cast<int>(rng_.Below(ranks_.size()));
      fault_step_ = static_cast<Step>(rng_.Below(static_cast<uint64_t>(steps_)));
      // Nobody waits for the only rank, and it meets nobody with another tag.
      const bool needs_others = fault_ == Fault::kStalls || fault_ == Fault::kWrongTag || fault_ == Fault::kLeavesEarly;
      if (needs_others && ranks_.size() == 1) fault_ = Fault::kNone;
    }
    machine_.emplace(options_, now_);
  }

  void Run() {
    for (int rank = 0; rank < options_.ranks; ++rank) {
      if (fault_ == Fault::kNeverJoins && rank == culprit_) continue;
      At(Between(milliseconds(1), seconds(20)), [this, rank] { JoinAndBegin(rank); });
    }
    At(milliseconds(500), [this] { Tick(); });
    if (rng_.Below(2) == 0) {
      const Duration when = Between(milliseconds(1), seconds(30));
      At(when, [this] {
        if (!machine_->over() && machine_->rank_state(0).joined && machine_->rank_state(0).left) return;
        asked_ = !machine_->over();
        machine_->RequestSave();
        CarryOut();
      });
    }
    // The launcher sleeps: nothing is handled, then a tick comes before what was said meanwhile.
    if (rng_.Below(3) == 0) {
      asleep_from_ = now_ + Between(seconds(1), seconds(20));
      asleep_until_ = asleep_from_ + Between(seconds(3), seconds(40));
    }
    const TimePoint end = now_ + seconds(600);
    while (!events_.empty() && events_.top().at < end) {
      const auto event = events_.top();
      events_.pop();
      now_ = event.at;
      event.what();
    }
  }

  void Check() const {
    ASSERT_EQ(outcomes_, 1) << "the job did not end, or twice";
    const Outcome& outcome = *machine_->outcome();
    const std::string why = Message(outcome.status);
    if (!faulted_at_.has_value()) {
      EXPECT_EQ(outcome.code, ExitCode::kDone) << why;
      EXPECT_TRUE(outcome.status.ok()) << why;
      for (const Rank& rank : ranks_) {
        EXPECT_TRUE(rank.farewell);
        EXPECT_EQ(rank.gathers, Gathers()) << "an AllGather never ended";
      }
      EXPECT_EQ(requests_, asked_ ? 1 : 0);
      return;
    }
    EXPECT_EQ(outcome.code, fault_ == Fault::kDiverges ? ExitCode::kDiverged : ExitCode::kRankFailed);
    EXPECT_EQ(outcome.culprit, fault_ == Fault::kWrongTag ? outcome.culprit : culprit_) << why;
    EXPECT_THAT(why, HasSubstr(fault_ == Fault::kNeverJoins ? Cat("rank ", culprit_, " of ") : Cat("rank ", culprit_))) << why;
    EXPECT_THAT(why, HasSubstr(Cause())) << why;
    // In time: the limit, the coordinator's own sleep, a tick, delays, and what the others still had to do until they waited.
    Duration limit = seconds(1) + 3 * kDelayMax + (asleep_until_ - asleep_from_);
    if (fault_ == Fault::kFrozen) limit += options_.deadline + kBeat;
    if (fault_ == Fault::kStalls) limit += options_.stall + seconds(30);
    if (fault_ == Fault::kNeverJoins) limit += options_.start_limit;
    if (fault_ == Fault::kLinkCut) limit += options_.last_news;
    if (fault_ == Fault::kLeavesEarly || fault_ == Fault::kWrongTag) limit += options_.deadline + seconds(30);
    EXPECT_LE(Seconds(ended_at_ - *faulted_at_), Seconds(limit)) << why;
    for (const Rank& rank : ranks_) EXPECT_LE(rank.told_failed, 1);
  }

  std::string Script() const {
    return Cat(ranks_.size(), " ranks, ", steps_, " steps, fault ", static_cast<int>(fault_), " of rank ", culprit_, " at step ",
               fault_step_, faulted_at_.has_value() ? "" : " (not reached)");
  }
  bool failed() const { return faulted_at_.has_value(); }
  Fault fault() const { return fault_; }

 private:
  struct Rank {
    Step step = -1;
    uint64_t progress = 0;
    bool waiting = false;
    bool beats = false;   // its heartbeat's thread runs
    bool works = false;   // its training runs
    bool linked = false;  // the coordinator has not been told that its link closed
    bool farewell = false;
    int64_t gathers = 0;
    int told_failed = 0;
    TimePoint arrives = {};  // of its last message: order is kept
  };
  struct Timed {
    TimePoint at;
    uint64_t order;
    std::function<void()> what;
    bool operator<(const Timed& other) const { return std::tie(at, order) > std::tie(other.at, other.order); }
  };

  static bool IsGather(Step step) { return step % 3 == 0; }
  int64_t Gathers() const { return (steps_ + 2) / 3; }

  std::string Cause() const {
    switch (fault_) {
      case Fault::kKilled:
        return "killed by signal 9 (SIGKILL)";
      case Fault::kExits:
        return "ended with exit code 1 without a last word";
      case Fault::kLinkCut:
        return "connection ended without a last word";
      case Fault::kFrozen:
        return "silent for";
      case Fault::kStalls:
        return "has not advanced for";
      case Fault::kNeverJoins:
        return "did not join within 1 min";
      case Fault::kWrongTag:
        return "another tag";
      case Fault::kLeavesEarly:
        return "left while rank";
      default:
        return "loss is NaN";
    }
  }

  Duration Between(Duration low, Duration high) {
    return low + Duration(static_cast<int64_t>(rng_.Below(static_cast<uint64_t>((high - low).count()))));
  }
  void At(Duration in, std::function<void()> what) { events_.push({now_ + in, order_++, std::move(what)}); }
  // What reaches the coordinator while it sleeps is handled when it wakes, after its first tick.
  Duration UntilAwake(TimePoint at) const {
    return asleep_from_ <= at && at < asleep_until_ ? asleep_until_ + milliseconds(1) - now_ : at - now_;
  }
  Rank& rank(int number) { return ranks_[static_cast<size_t>(number)]; }

  void Arrive(int number, std::function<void()> what) {
    Rank& it = rank(number);
    it.arrives = std::max(it.arrives, now_ + Between(Duration(1), kDelayMax));
    At(UntilAwake(it.arrives), [this, what = std::move(what)] {
      what();
      CarryOut();
    });
  }
  void Say(int number, ControlMessage message) {
    Arrive(number, [this, number, message = std::move(message)] {
      if (rank(number).linked) machine_->Receive(number, message, now_);
    });
  }
  void CloseLink(int number) {
    Arrive(number, [this, number] {
      rank(number).linked = false;
      machine_->LinkClosed(number, Unavailable("closed"), now_);
    });
  }
  // A process's end overtakes its last messages or not.
  void EndProcess(int number, const ProcessEnd& end) {
    rank(number).works = rank(number).beats = false;
    CloseLink(number);
    At(UntilAwake(now_ + Between(Duration(1), kDelayMax)), [this, number, end] {
      machine_->ProcessEnded(number, end, now_);
      CarryOut();
    });
  }

  void Tick() {
    if (now_ < asleep_from_ || now_ >= asleep_until_) {
      machine_->Tick(now_);
      CarryOut();
      At(milliseconds(500), [this] { Tick(); });
    } else {
      At(asleep_until_ - now_, [this] { Tick(); });
    }
  }

  void JoinAndBegin(int number) {
    Arrive(number, [this, number] {
      const Status joined = machine_->Join({.rank = number, .world_size = options_.ranks, .pid = 1000 + number, .host = "sim"}, now_);
      EXPECT_TRUE(joined.ok() || machine_->over()) << Message(joined);
      if (!joined.ok()) return;
      Rank& it = rank(number);
      it.linked = it.works = it.beats = true;
      Beat(number);
      Begin(number);
    });
  }
  void Beat(int number) {
    Rank& it = rank(number);
    if (!it.beats) return;
    Say(number, Heartbeat{it.step, it.progress, it.waiting});
    At(kBeat, [this, number] { Beat(number); });
  }
  void Begin(int number) {
    Rank& it = rank(number);
    ++it.step;
    ++it.progress;
    if (it.step == steps_) return Leave(number, OkStatus());
    At(Between(milliseconds(10), seconds(3)), [this, number] { EndOfWork(number); });
  }
  // The rank's own part of the step is done; it meets the others by an AllGather or a barrier (as in shared memory).
  void EndOfWork(int number) {
    Rank& it = rank(number);
    if (!it.works) return;
    if (number == culprit_ && it.step == fault_step_ && fault_ != Fault::kNone && !faulted_at_.has_value() && !machine_->over()) {
      // A wrong tag needs a step with an AllGather.
      if (fault_ == Fault::kWrongTag && !IsGather(it.step)) {
        ++fault_step_;
      } else if (Commit(number)) {
        return;
      }
    }
    if (IsGather(it.step)) {
      return Say(number, Gather{Cat("at ", it.step), static_cast<uint64_t>(it.gathers), Cat(number, ":", it.gathers)});
    }
    it.waiting = true;
    const Step step = it.step;
    for (const Rank& other : ranks_) {
      if (other.step < it.step || (other.step == it.step && !other.waiting)) return;
    }
    for (int other = 0; other < options_.ranks; ++other) {
      if (rank(other).step != step || !rank(other).works) continue;
      rank(other).waiting = false;
      ++rank(other).progress;
      Begin(other);
    }
  }
  // True if the rank does nothing more.
  bool Commit(int number) {
    faulted_at_ = now_;
    Rank& it = rank(number);
    switch (fault_) {
      case Fault::kKilled:
        EndProcess(number, {.signal = SIGKILL});
        return true;
      case Fault::kExits:
        EndProcess(number, {.exit_code = 1});
        return true;
      case Fault::kLinkCut:
        it.works = it.beats = false;
        CloseLink(number);
        return true;
      case Fault::kFrozen:
        it.works = it.beats = false;
        return true;
      case Fault::kStalls:
        it.works = false;
        return true;
      case Fault::kWrongTag:
        Say(number, Gather{"another tag", static_cast<uint64_t>(it.gathers), ""});
        return true;
      case Fault::kLeavesEarly:
        Leave(number, OkStatus());
        return true;
      default:
        Leave(number, WithExitCode(OutOfRange("loss is NaN"), ExitCode::kDiverged));
        return true;
    }
  }
  void Leave(int number, const Status& outcome) {
    Rank& it = rank(number);
    it.works = false;
    Say(number, dtrain::Leave{static_cast<int>(outcome.code()), Message(outcome),
                              static_cast<int>(ExitCodeOf(outcome, ExitCode::kRankFailed)), it.step});
  }

  void CarryOut() {
    for (const Action& action : machine_->TakeActions()) {
      if (const auto* outcome = std::get_if<Outcome>(&action)) {
        ++outcomes_;
        ended_at_ = now_;
        if (fault_ == Fault::kNeverJoins && !outcome->status.ok()) faulted_at_ = TimePoint(std::chrono::hours(1));
      }
      if (const auto* send = std::get_if<SendTo>(&action)) Hear(send->rank, send->message);
    }
  }
  void Hear(int number, const ControlMessage& message) {
    Rank& it = rank(number);
    // The invariants of sending: to members only, and nothing after the farewell.
    EXPECT_TRUE(machine_->rank_state(number).link_open) << NameOf(message) << " to rank " << number << ", whose link is closed";
    EXPECT_FALSE(it.farewell) << NameOf(message) << " to rank " << number << " after its farewell";
    if (std::holds_alternative<Request>(message)) {
      EXPECT_EQ(number, 0);
      ++requests_;
    } else if (std::holds_alternative<Farewell>(message)) {
      it.farewell = true;
      At(Between(Duration(1), kDelayMax), [this, number] { EndProcess(number, {}); });
    } else if (std::holds_alternative<Failed>(message)) {
      ++it.told_failed;
      if (it.works) Leave(number, Unavailable("the job failed"));
    } else if (const auto* gathered = std::get_if<Gathered>(&message)) {
      ASSERT_EQ(gathered->parts.size(), ranks_.size());
      for (size_t peer = 0; peer < ranks_.size(); ++peer) EXPECT_EQ(gathered->parts[peer], Cat(peer, ":", it.gathers));
      EXPECT_EQ(gathered->tag, Cat("at ", it.step));
      ++it.gathers;
      ++it.progress;
      if (it.works)
        At(Between(Duration(1), kDelayMax), [this, number] {
          if (rank(number).works) Begin(number);
        });
    }
  }

  Rng rng_;
  CoordinatorOptions options_;
  std::vector<Rank> ranks_;
  Step steps_ = 0;
  Fault fault_ = Fault::kNone;
  int culprit_ = -1;
  Step fault_step_ = 0;
  std::optional<TimePoint> faulted_at_;
  TimePoint now_ = TimePoint(std::chrono::hours(1)), asleep_from_ = {}, asleep_until_ = {}, ended_at_ = {};
  std::optional<Coordinator> machine_;
  std::priority_queue<Timed> events_;
  uint64_t order_ = 0;
  int outcomes_ = 0, requests_ = 0;
  bool asked_ = false;
};

TEST(CoordinatorSimulation, OneOutcomeAndTheRightOneOverManySeeds) {
  std::map<Fault, int> committed;
  int good = 0;
  for (uint64_t seed = 0; seed < 4'000; ++seed) {
    Simulation simulation(seed);
    simulation.Run();
    SCOPED_TRACE(Cat("seed ", seed, ": ", simulation.Script()));
    simulation.Check();
    ++(simulation.failed() ? committed[simulation.fault()] : good);
    if (HasFailure()) return;  // the first seed says enough
  }
  EXPECT_GT(good, 1'000);
  for (int fault = 1; fault < static_cast<int>(Fault::kCount); ++fault) {
    EXPECT_GT(committed[static_cast<Fault>(fault)], 50) << "fault " << fault << " was hardly tried";
  }
}

}  // namespace
}  // namespace dtrain
