// The worker's side of the parameter server as a pure state machine: (call or message, time) in, messages and events out.
// It cuts a flat gradient by the table's sharding, pushes and pulls in one exchange, asks again with growing pauses until
// it is answered, keeps to a window of bytes under way, and says so when a server stays silent.
//
//   Join                                    -> Joined
//   Await(step)                             -> ParametersReady: parameters() are those to compute the step on
//   Push(work, gradient), Finish(step, ...) -> StepClosed once every server has applied the step (synchronous)
//                                           -> PushTaken once every chunk is applied (asynchronous)
//   SetView / Restart                       after ViewChanged, as the coordinator says
//
// What was received for the next step lies beside parameters() until all of it is there, so the current step can be
// computed again, for a worker that has died, up to its very end.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "paramserver/limits.h"
#include "paramserver/messages.h"
#include "paramserver/shard.h"
#include "paramserver/sharding.h"

namespace dtrain::ps {

struct ClientOptions {
  uint64_t job = 0;
  int32_t worker = 0;
  Mode mode = Mode::kSync;
  int64_t staleness_bound = 0;
  bool backup_workers = false;
  int64_t window_bytes = kWindowBytes;
  Duration retry_min = kRetryMin, retry_max = kRetryMax;
  Duration silence_max = kSilenceMax;
};

struct Joined {
  int64_t version = 0;  // the newest of any server: synchronous, the open step
};
// The parameters of `step`. With backup workers a later step than was asked for, if the others have gone on.
struct ParametersReady {
  Step step = 0;
  int64_t version_min = 0, version_max = 0;
};
struct StepClosed {
  Closed report;
};
struct PushTaken {
  Work work;
};
struct ClaimAnswered {
  Step step = 0;
  int32_t slot = -1;
};
struct ViewChanged {
  int64_t view = 0;  // of the server that said so; nothing is sent until SetView
};
struct TableChanged {
  Table table;  // the one in force; this client can do no more, make another
};
struct ClientFailed {
  Status status;  // nothing more is sent
};
using ClientEvent = std::variant<Joined, ParametersReady, StepClosed, PushTaken, ClaimAnswered, ViewChanged, TableChanged, ClientFailed>;

struct ClientSend {
  int server = 0;
  Message message;  // elements are views into parameters() or a gradient that the client holds; write them before the next call
};

using Gradient = std::shared_ptr<const std::vector<float>>;  // flat, layout().elements long

class Client {
 public:
  // `table` was checked. `initial`: the flat parameters, of worker 0.
  Client(const ClientOptions& options, Table table, std::vector<float> initial = {});

  void SetView(int64_t view, uint64_t incarnation, TimePoint now);
  // Forgets everything but the view and the parameters' size: the job goes back to an earlier step, or begins again.
  void Restart();
  void Join(TimePoint now);
  void Await(Step step, TimePoint now);
  // `scale`: see Push in messages.h. Not twice for the same work, unless Restart came between.
  void Push(const Work& work, const Gradient& gradient, double scale, TimePoint now);
  void Finish(Step step, const SubTree& unit, double weight, double loss_sum, bool finite, TimePoint now);
  void Claim(Step step, double weight, TimePoint now);

  // `message` was decoded and came from `server`.
  void Receive(int server, const Message& message, TimePoint now);
  void Tick(TimePoint now);
  TimePoint NextTick() const;  // when Tick has something to do; TimePoint::max() if nothing waits

  std::vector<ClientSend> TakeSends() { return std::exchange(sends_, {}); }
  std::vector<ClientEvent> TakeEvents() { return std::exchange(events_, {}); }

  const std::vector<float>& parameters() const { return parameters_; }
  int64_t read_version(int chunk) const { return read_versions_[static_cast<size_t>(chunk)]; }
  const Table& table() const { return table_; }
  const FlatLayout& layout() const { return layout_; }
  const Sharding& sharding() const { return sharding_; }
  int64_t bytes_under_way(int server) const { return servers_[static_cast<size_t>(server)].bytes_under_way; }

 private:
  enum class Kind : uint8_t { kRegister, kInitial, kClaim, kPush, kFinish, kClose, kPull };
  // kind, epoch, step, first leaf, chunk; what a kind does not have is 0.
  using Key = std::tuple<Kind, int64_t, Step, int64_t, int>;
  struct Request {
    Body body;
    Gradient gradient;               // kPush
    TimePoint due;                   // when it is sent (again)
    std::optional<TimePoint> asked;  // first sent in this view; silence counts from here
    Duration pause;
    bool queued = false;    // waits for the window
    int64_t under_way = 0;  // bytes of it in the window
  };
  struct Server {
    std::map<Key, Request> requests;
    std::deque<Key> queue;  // due, waiting for the window
    int64_t bytes_under_way = 0;
    TimePoint heard = TimePoint::min();
    bool registered = false;
  };
  // What is waited for next.
  struct Incoming {
    Step step = 0;
    std::vector<float> parameters;
    std::vector<int64_t> versions;                    // by chunk; -1 has not come
    std::vector<std::pair<int64_t, int64_t>> window;  // by chunk: which versions will do
    int64_t missing = 0;
    bool awaited = false;  // the caller asked for it
  };
  struct Closing {
    std::map<int, std::vector<SumPart>> parts;  // by server
    std::map<int, Closed> closed;
    bool finished = false;  // Finish was called
  };

  void Ask(int server, const Key& key, Body body, TimePoint due, Gradient gradient = nullptr);
  void Send(int server, const Key& key, Request& request, TimePoint now);
  void Pump(int server, TimePoint now);
  void Answered(int server, const Key& key);                               // it is done with
  void PutOff(int server, const Key& key, Duration pause, TimePoint now);  // it was heard; ask again after a pause
  void BeginIncoming(Step step, TimePoint pull_at);
  void TakeParameters(int server, const Parameters& parameters, std::span<const float> elements, TimePoint now);
  void MaybeReady();
  void Fail(Status status);
  void OnRefused(int server, const Refused& refused);
  void OnRegistered(int server, const Message& message, TimePoint now);
  void OnPushAnswer(int server, const PushAnswer& answer, TimePoint now);
  void OnClosed(int server, const Closed& report, TimePoint now);
  void OnSums(int server, const Sums& sums, TimePoint now);
  void OnPassed(int server, const Passed& passed, TimePoint now);
  void AskToClose(Step step, double square_sum, TimePoint now);
  int64_t bound() const { return options_.mode == Mode::kStale ? options_.staleness_bound : 0; }
  Key PushKey(const Work& work, int chunk) const { return {Kind::kPush, work.epoch, work.step, work.unit.first_leaf(), chunk}; }

  const ClientOptions options_;
  const Table table_;
  const FlatLayout layout_;
  const Sharding sharding_;
  std::vector<float> parameters_, initial_;
  std::vector<int64_t> read_versions_;
  std::optional<Incoming> incoming_;
  std::vector<float> spare_;
  std::vector<Server> servers_;
  std::map<Step, Closing> closing_;
  std::map<std::pair<int64_t, Step>, int64_t> chunks_left_;  // kAsync: of (epoch, lease)
  bool joining_ = false, failed_ = false;
  int64_t joined_version_ = 0;
  int64_t view_ = 0;
  uint64_t incarnation_ = 0;
  bool paused_ = true;  // until SetView
  std::vector<ClientSend> sends_;
  std::vector<ClientEvent> events_;
};

}  // namespace dtrain::ps
