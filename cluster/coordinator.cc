#include "cluster/coordinator.h"

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace dtrain {
namespace {

constexpr int kNobody = -1;

std::string AtStep(Step step) { return step < 0 ? "before its first step" : Cat("step ", step); }

std::string NamesOf(const std::vector<int>& ranks) {
  std::vector<std::string> names;
  for (const int rank : ranks) names.push_back(Cat(rank));
  return Cat(ranks.size() == 1 ? "rank " : "ranks ", Join(names, ", "));
}

// What a rank that could not join says with its exit code.
ExitCode OwnExitCode(int code) {
  for (const ExitCode own : {ExitCode::kUsage, ExitCode::kConfiguration, ExitCode::kSetUp, ExitCode::kDiverged}) {
    if (code == static_cast<int>(own)) return own;
  }
  return ExitCode::kRankFailed;
}

}  // namespace

std::string ProcessEnd::ToText() const {
  if (signal == 0) return Cat("exit code ", exit_code);
  const char* name = sigabbrev_np(signal);
  return Cat("killed by signal ", signal, name == nullptr ? "" : Cat(" (SIG", name, ")"));
}

Coordinator::Coordinator(const CoordinatorOptions& options, TimePoint now)
    : options_(options), started_(now), ticked_(now), ranks_(static_cast<size_t>(options.ranks)) {
  DTRAIN_CHECK(options.ranks >= 1 && options.ranks <= kRanksMax);
}

Coordinator::RankState Coordinator::rank_state(int rank) const { return ranks_.at(static_cast<size_t>(rank)); }

int Coordinator::joined() const {
  return static_cast<int>(std::count_if(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.joined; }));
}

std::vector<Action> Coordinator::TakeActions() { return std::exchange(actions_, {}); }

std::string Coordinator::Named(int rank) const {
  const Rank& it = ranks_[static_cast<size_t>(rank)];
  return Cat("rank ", rank, " of ", options_.ranks, " (", it.pid > 0 ? Cat("pid ", it.pid, ", ") : "", AtStep(it.step), ")");
}

void Coordinator::Send(int rank, ControlMessage message) { actions_.push_back(SendTo{rank, std::move(message)}); }

void Coordinator::Fail(const Status& status, ExitCode code, int culprit) {
  if (over()) return;  // the first cause is the one that is told
  outcome_ = Outcome{WithExitCode(status, code), code, culprit};
  for (int rank = 0; rank < options_.ranks; ++rank) {
    const Rank& it = ranks_[static_cast<size_t>(rank)];
    if (Present(it) && it.link_open) Send(rank, Failed{Message(status), static_cast<int>(code)});
  }
  actions_.push_back(*outcome_);
}

void Coordinator::FailBecauseOf(int rank, StatusCode code, std::string_view cause, std::string_view hint, ExitCode exit_code) {
  Fail(WithHint(MakeStatus(code, "the job failed: ", Named(rank), ": ", cause), hint), exit_code, rank);
}

Status Coordinator::CheckJoin(const Hello& hello) const {
  if (over()) return FailedPrecondition("the job is over", outcome_->status.ok() ? "" : Cat(": ", Message(outcome_->status)));
  if (hello.world_size != options_.ranks) {
    return FailedPrecondition("rank ", hello.rank, " believes that the job has ", hello.world_size, " ranks, it has ", options_.ranks);
  }
  if (hello.rank < 0 || hello.rank >= options_.ranks) {
    return FailedPrecondition("there is no rank ", hello.rank, " in a job of ", options_.ranks, " ranks");
  }
  const Rank& rank = ranks_[static_cast<size_t>(hello.rank)];
  if (rank.joined) return AlreadyExists("rank ", hello.rank, " has joined already (pid ", rank.pid, " on ", rank.host, ")");
  if (rank.process_ended) return FailedPrecondition("the process of rank ", hello.rank, " has ended");
  return OkStatus();
}

Status Coordinator::Join(const Hello& hello, TimePoint now) {
  if (Status refused = CheckJoin(hello); !refused.ok()) {
    if (!over()) {
      turned_away_ = Cat("pid ", hello.pid, " on ", hello.host, ": ", Message(refused));
      actions_.push_back(Notice{-1, Cat("turned away ", turned_away_)});
    }
    return refused;
  }
  Rank& rank = ranks_[static_cast<size_t>(hello.rank)];
  rank.joined = rank.link_open = true;
  rank.pid = hello.pid;
  rank.host = hello.host;
  rank.heard = rank.advanced = now;
  if (hello.rank == 0 && (requests_.stop || requests_.saves > 0)) Send(0, requests_);
  return OkStatus();
}

void Coordinator::Receive(int rank, const ControlMessage& message, TimePoint now) {
  Rank& it = ranks_.at(static_cast<size_t>(rank));
  if (!Present(it) || !it.link_open) return;
  it.heard = std::max(it.heard, now);
  if (const auto* beat = std::get_if<Heartbeat>(&message)) return ReceiveBeat(rank, *beat, now);
  if (const auto* leave = std::get_if<Leave>(&message)) return ReceiveLeave(rank, *leave, now);
  if (const auto* event = std::get_if<Event>(&message)) {
    actions_.push_back(Reported{rank, event->text});
  } else if (const auto* gather = std::get_if<Gather>(&message)) {
    ReceivePart(rank, *gather, now);
  } else if (const auto* request = std::get_if<Request>(&message)) {
    if (!request->stop || requests_.stop) return;
    if (!over()) actions_.push_back(Notice{rank, Cat("stopping: ", Named(rank), " was asked to stop by a signal"), LogLevel::kInfo});
    RequestStop();
  } else {
    FailBecauseOf(rank, StatusCode::kDataLoss, Cat("it sent a ", NameOf(message), ", which no rank sends"));
  }
}

void Coordinator::ReceiveBeat(int rank, const Heartbeat& beat, TimePoint now) {
  Rank& it = ranks_[static_cast<size_t>(rank)];
  it.step = std::max(it.step, beat.step);
  if (beat.progress != it.progress) {
    it.progress = beat.progress;
    it.advanced = now;
    it.named_slow = false;
    it.waiting_since = now;
  }
  if (beat.waiting && !Waits(it)) it.waiting_since = now;
  it.waiting = beat.waiting;
  Send(rank, Heartbeat{.step = 0});
}

void Coordinator::ReceivePart(int rank, const Gather& gather, TimePoint now) {
  if (over()) return;
  Rank& it = ranks_[static_cast<size_t>(rank)];
  const std::string what = Cat("all-gather \"", gather.tag, "\"");
  if (gather.sequence != gather_sequence_ || it.part.has_value()) {
    return FailBecauseOf(rank, StatusCode::kDataLoss,
                         Cat(what, ": it sent part number ", gather.sequence, ", the job is at number ", gather_sequence_));
  }
  if (gather_first_ == kNobody) {
    gather_first_ = rank;
    gather_tag_ = gather.tag;
  } else if (gather.tag != gather_tag_) {
    return FailBecauseOf(rank, StatusCode::kFailedPrecondition,
                         Cat(what, ": rank ", gather_first_, " is in all-gather \"", gather_tag_,
                             "\" at the same time; all ranks must call the same in the same order"));
  }
  if (!Waits(it)) it.waiting_since = now;
  it.advanced = now;
  it.part = gather.part;
  std::vector<int> gone;
  size_t bytes = 0;
  bool complete = true;
  for (int peer = 0; peer < options_.ranks; ++peer) {
    const Rank& other = ranks_[static_cast<size_t>(peer)];
    if (other.left) gone.push_back(peer);
    complete = complete && other.part.has_value();
    bytes += other.part.has_value() ? other.part->size() : 0;
  }
  if (!gone.empty()) {
    return FailBecauseOf(gone.front(), StatusCode::kFailedPrecondition,
                         Cat("it left while rank ", rank, " needs it for ", what, "; all ranks must call the same in the same order"));
  }
  if (bytes > kGatheredBytesMax) {
    return FailBecauseOf(rank, StatusCode::kResourceExhausted,
                         Cat(what, ": the parts together exceed ", HumanBytes(static_cast<double>(kGatheredBytesMax))));
  }
  if (!complete) return;
  Gathered gathered{gather.tag, gather.sequence, {}};
  for (Rank& other : ranks_) {
    gathered.parts.push_back(std::move(*other.part));
    other.part.reset();
    other.advanced = now;
  }
  for (int peer = 0; peer < options_.ranks; ++peer) {
    if (ranks_[static_cast<size_t>(peer)].link_open) Send(peer, gathered);
  }
  gather_first_ = kNobody;
  ++gather_sequence_;
}

// For the message of a rank that gave up waiting in an all-gather: only we know for whom.
std::string Coordinator::LackedByGather() const {
  std::vector<int> lacked;
  for (int rank = 0; rank < options_.ranks; ++rank) {
    if (!ranks_[static_cast<size_t>(rank)].part.has_value()) lacked.push_back(rank);
  }
  return Cat("; all-gather \"", gather_tag_, "\" still lacked ", NamesOf(lacked));
}

void Coordinator::ReceiveLeave(int rank, const Leave& leave, TimePoint now) {
  Rank& it = ranks_[static_cast<size_t>(rank)];
  it.left = true;
  it.step = std::max(it.step, leave.step);
  it.advanced = now;
  Send(rank, Farewell{});
  if (over()) return;
  const bool stopped = leave.exit_code == static_cast<int>(ExitCode::kStopped);
  const auto code = static_cast<StatusCode>(leave.status_code);
  if (code != StatusCode::kOk && !stopped) {
    // An error that claims to be success ends the job as any other.
    const ExitCode exit_code = leave.exit_code > 0 ? static_cast<ExitCode>(leave.exit_code) : ExitCode::kRankFailed;
    std::string message = leave.message;
    if (it.part.has_value()) message.insert(std::min(message.find("\n  Hint: "), message.size()), LackedByGather());
    return Fail(MakeStatus(code, "the job failed: ", Named(rank), ": ", message), exit_code, rank);
  }
  if (gather_first_ != kNobody) {
    return FailBecauseOf(rank, StatusCode::kFailedPrecondition,
                         Cat("it left while rank ", gather_first_, " needs it for all-gather \"", gather_tag_,
                             "\"; all ranks must call the same in the same order"));
  }
  if (stopped && stopped_status_.ok()) {
    stopped_status_ = MakeStatus(code == StatusCode::kOk ? StatusCode::kCancelled : code,
                                 leave.message.empty() ? Cat("stopped at step ", it.step) : leave.message);
  }
  if (!std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& other) { return other.left; })) return;
  const ExitCode exit_code = stopped_status_.ok() ? ExitCode::kDone : ExitCode::kStopped;
  outcome_ = Outcome{WithExitCode(stopped_status_, exit_code), exit_code, kNobody};
  actions_.push_back(*outcome_);
}

void Coordinator::LinkClosed(int rank, const Status& why, TimePoint now) {
  Rank& it = ranks_.at(static_cast<size_t>(rank));
  if (!it.link_open) return;
  it.link_open = false;
  if (Present(it)) {
    it.link_closed = now;
    it.link_error = why;
  }
}

void Coordinator::ProcessEnded(int rank, const ProcessEnd& end, TimePoint) {
  Rank& it = ranks_.at(static_cast<size_t>(rank));
  if (std::exchange(it.process_ended, true)) return;
  if (it.left) {
    if (end.signal != 0 && !(over() && !outcome_->status.ok())) {
      actions_.push_back(Notice{rank, Cat(Named(rank), " had left the job in order, but then was ", end.ToText())});
    }
    return;
  }
  if (end.signal == SIGKILL) {
    return FailBecauseOf(rank, StatusCode::kUnavailable, end.ToText(),
                         "if nobody killed it, the kernel ran out of memory (`dmesg | grep -i oom`)");
  }
  if (end.signal != 0) return FailBecauseOf(rank, StatusCode::kUnavailable, end.ToText());
  if (it.joined) return FailBecauseOf(rank, StatusCode::kUnavailable, Cat("its process ended with ", end.ToText(), " without a last word"));
  FailBecauseOf(rank, StatusCode::kUnavailable, Cat("its process ended with ", end.ToText(), " before it joined"), "",
                OwnExitCode(end.exit_code));
}

void Coordinator::RequestStop() {
  if (std::exchange(requests_.stop, true) || over()) return;
  if (Present(ranks_[0]) && ranks_[0].link_open) Send(0, requests_);
}

void Coordinator::RequestSave() {
  ++requests_.saves;
  if (over()) return;
  if (Present(ranks_[0]) && ranks_[0].link_open) Send(0, requests_);
}

void Coordinator::Tick(TimePoint now) {
  const Duration gap = now - ticked_;
  ticked_ = std::max(ticked_, now);
  if (gap > options_.deadline / 2) {
    // We were asleep (a stopped process, a suspended machine). What the others said meanwhile may still lie unread.
    const auto later = [&](TimePoint& at) { at = std::min(now, at + gap); };
    later(started_);
    for (Rank& rank : ranks_) {
      later(rank.heard);
      later(rank.advanced);
      later(rank.waiting_since);
      if (rank.link_closed.has_value()) later(*rank.link_closed);
    }
  }
  if (over()) return;
  if (joined() < options_.ranks && now - started_ >= options_.start_limit) {
    std::vector<int> missing;
    for (int rank = 0; rank < options_.ranks; ++rank) {
      if (!ranks_[static_cast<size_t>(rank)].joined) missing.push_back(rank);
    }
    return Fail(
        DeadlineExceeded("the job failed: ", NamesOf(missing), " of ", options_.ranks, " did not join within ",
                         HumanSeconds(Seconds(options_.start_limit)), turned_away_.empty() ? "" : Cat("; turned away was ", turned_away_)),
        ExitCode::kRankFailed, missing.size() == 1 ? missing.front() : kNobody);
  }
  CheckSilence(now);
  CheckProgress(now);
}

void Coordinator::CheckSilence(TimePoint now) {
  for (int rank = 0; rank < options_.ranks && !over(); ++rank) {
    const Rank& it = ranks_[static_cast<size_t>(rank)];
    if (!Present(it)) continue;
    if (it.link_closed.has_value()) {
      if (now - *it.link_closed >= std::min(options_.last_news, options_.deadline)) {
        FailBecauseOf(rank, StatusCode::kUnavailable, Cat("its connection ended without a last word (", Message(it.link_error), ")"));
      }
    } else if (now - it.heard >= options_.deadline) {
      FailBecauseOf(rank, StatusCode::kDeadlineExceeded,
                    Cat("its heartbeat has been silent for ", HumanSeconds(Seconds(now - it.heard)), " (the deadline is ",
                        HumanSeconds(Seconds(options_.deadline)), ")"),
                    "it was frozen or the machine is overloaded; strategy.deadline sets how long is too long");
    }
  }
}

// Slow are those at the lowest step that do not wait while others do. If all wait for one another, or for a rank that
// left, nobody ever goes on.
void Coordinator::CheckProgress(TimePoint now) {
  if (over() || joined() < options_.ranks) return;
  std::vector<int> waiting, working;
  std::vector<int> left;
  TimePoint last = TimePoint::min();  // sign of life of anybody's training
  Step lowest = INT64_MAX;
  for (int rank = 0; rank < options_.ranks; ++rank) {
    const Rank& it = ranks_[static_cast<size_t>(rank)];
    last = std::max(last, std::max(it.advanced, it.waiting_since));
    if (it.left) {
      left.push_back(rank);
    } else if (Waits(it)) {
      waiting.push_back(rank);
    } else {
      working.push_back(rank);
      lowest = std::min(lowest, it.step);
    }
  }
  if (working.empty() && !waiting.empty()) {
    if (!left.empty() && now - last >= options_.deadline) {
      return FailBecauseOf(left.front(), StatusCode::kFailedPrecondition, Cat("it left while ", NamesOf(waiting), " still waits for it"));
    }
    if (left.empty() && now - last >= options_.stall) {
      Fail(DeadlineExceeded("the job failed: all ranks have waited for one another for ", HumanSeconds(Seconds(now - last)), ": ",
                            Named(waiting.front()), options_.ranks > 1 ? " and the others" : ""),
           ExitCode::kRankFailed, kNobody);
    }
    return;
  }
  for (const int rank : working) {
    Rank& it = ranks_[static_cast<size_t>(rank)];
    if (it.step != lowest) continue;
    TimePoint others_wait = TimePoint::max();
    for (int peer = 0; peer < options_.ranks; ++peer) {
      const Rank& other = ranks_[static_cast<size_t>(peer)];
      if (other.left) continue;
      if (Waits(other))
        others_wait = std::min(others_wait, other.waiting_since);
      else if (other.step > it.step)
        others_wait = std::min(others_wait, other.advanced);
    }
    if (others_wait == TimePoint::max()) continue;
    const Duration slow = now - std::max(it.advanced, others_wait);
    const std::string cause = Cat("it beats but has not advanced for ", HumanSeconds(Seconds(slow)), " while others wait for it");
    if (slow >= options_.stall) {
      return FailBecauseOf(rank, StatusCode::kDeadlineExceeded, cause, "strategy.stall sets how long is too long");
    }
    if (slow >= options_.slow && !std::exchange(it.named_slow, true)) actions_.push_back(Notice{rank, Cat(Named(rank), ": ", cause)});
  }
}

}  // namespace dtrain
