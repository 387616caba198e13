// Who is in the job, who is alive, and how the job ends: a pure state machine. (event, time) in, actions out; no
// threads, sockets or clock, so that the simulator can take it through thousands of schedules.
// cluster/coordinator_server.h gives it links and a clock.
//
// Liveness is not progress. A rank is dead if its process ended or its link closed without a Leave, or if its heartbeat
// was silent for `deadline`. A rank that beats while others wait for it is slow: named after `slow`, ended after
// `stall`. The first cause of a failure is the one that is told; there is one outcome.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "base/view.h"
#include "cluster/messages.h"

namespace dtrain {

struct CoordinatorOptions {
  int ranks = 1;
  std::string job_description;  // handed to every rank that joins; the coordinator does not look inside
  Duration deadline = std::chrono::seconds(5);
  Duration slow = std::chrono::seconds(10);
  Duration stall = std::chrono::minutes(10);
  Duration start_limit = std::chrono::seconds(60);  // for all ranks to join
  // A closed link waits so long for the news how its process ended, which is the better cause.
  Duration last_news = std::chrono::milliseconds(500);
};

// How a process ended: by exit(code), or by a signal.
struct ProcessEnd {
  int exit_code = 0;
  int signal = 0;  // 0: none

  std::string ToText() const;  // "exit code 1", "killed by signal 9 (KILL)"
};

// What to do. In order.
struct SendTo {
  int rank;
  ControlMessage message;
};
// For people: a slow rank, a process that crashed after its last word, a rank that was turned away. rank -1: the job.
struct Notice {
  int rank;
  std::string text;
  LogLevel level = LogLevel::kWarning;
};
// A rank reported something.
struct Reported {
  int rank;
  std::string text;
};
// The job's one outcome. On failure every rank that is still there was told; end what does not end by itself.
struct Outcome {
  Status status;
  ExitCode code = ExitCode::kDone;
  int culprit = -1;  // the rank that caused a failure; -1: none or several
};
using Action = std::variant<SendTo, Notice, Reported, Outcome>;

class Coordinator {
 public:
  // `now` is when the start limit begins.
  Coordinator(const CoordinatorOptions& options, TimePoint now);

  // --- Events. `now` never goes back.
  // A peer with the right token says that it is a rank. OK: it is in (a Welcome goes out through the caller, who knows
  // the link's nonces), and requests made before are among the actions. Otherwise the reason for a Refused: the number is
  // taken or out of range, the world size differs, the job is over. People are told of it too: it is one of their ranks.
  Status Join(const Hello& hello, TimePoint now);
  void Receive(int rank, const ControlMessage& message, TimePoint now);
  void LinkClosed(int rank, const Status& why, TimePoint now);
  // A rank that ends before it joined has only its exit code to say why: where that is one of ours it is the job's.
  void ProcessEnded(int rank, const ProcessEnd& end, TimePoint now);
  void RequestStop();  // idempotent
  void RequestSave();
  // Call at least every deadline / 5. A gap between two calls is our own sleep, for which nobody else is blamed.
  void Tick(TimePoint now);
  // Somebody else's reason to end the job (a launcher that cannot go on).
  void Fail(const Status& status, ExitCode code, int culprit);

  // --- What the events led to, since the last call.
  std::vector<Action> TakeActions();

  // --- State, for status lines and tests.
  struct RankState {
    bool joined = false;
    bool left = false;
    bool link_open = false;
    bool process_ended = false;
    int64_t pid = 0;
    std::string host;
    Step step = -1;
  };
  RankState rank_state(int rank) const;
  int joined() const;
  bool over() const { return outcome_.has_value(); }
  const std::optional<Outcome>& outcome() const { return outcome_; }
  const Request& requests() const { return requests_; }
  const CoordinatorOptions& options() const { return options_; }

 private:
  struct Rank : RankState {
    TimePoint heard = {};                  // last message of any kind
    TimePoint advanced = {};               // last rise of progress
    std::optional<TimePoint> link_closed;  // without Leave, and its process has not ended yet
    Status link_error;
    uint64_t progress = 0;
    bool waiting = false;
    TimePoint waiting_since = {};
    bool named_slow = false;
    std::optional<std::string> part;  // of the pending AllGather
    bool stopped = false;             // left with kStopped
  };

  void ReceiveBeat(int rank, const Heartbeat& beat, TimePoint now);
  void ReceivePart(int rank, const Gather& gather, TimePoint now);
  void ReceiveLeave(int rank, const Leave& leave, TimePoint now);
  std::string LackedByGather() const;
  void CheckSilence(TimePoint now);
  void CheckProgress(TimePoint now);
  bool Present(const Rank& rank) const { return rank.joined && !rank.left; }
  bool Waits(const Rank& rank) const { return rank.waiting || rank.part.has_value(); }
  Status CheckJoin(const Hello& hello) const;
  void FailBecauseOf(int rank, StatusCode code, std::string_view cause, std::string_view hint = "",
                     ExitCode exit_code = ExitCode::kRankFailed);
  void Send(int rank, ControlMessage message);
  std::string Named(int rank) const;  // "rank 1 of 3 (pid 4711, step 7)"

  const CoordinatorOptions options_;
  TimePoint started_;
  TimePoint ticked_;
  std::vector<Rank> ranks_;
  std::string gather_tag_;        // of the pending AllGather
  int gather_first_ = -1;         // who opened it; -1: none is pending
  uint64_t gather_sequence_ = 0;  // of the pending or next AllGather
  Request requests_;
  std::string turned_away_;  // the newest reason for a Refused, while not all have joined
  Status stopped_status_;    // of the first rank that left with kStopped
  std::optional<Outcome> outcome_;
  std::vector<Action> actions_;
};

}  // namespace dtrain
