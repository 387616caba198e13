// One server's part of the parameters as a pure state machine: (message, time) in, effects out; no threads, sockets, files.
//
// Synchronous and bounded-stale. Step t turns version t into version t + 1, once the gradients of all leaves are in,
// whoever computed them; they are added in the order of base/leaf_tree.h, so neither the number of workers nor that of
// shards changes a bit. A worker may compute step t on any version from t - bound to t; with bound 0 that is synchronous
// training. After Ho et al., "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server", NIPS 2013,
// except that updates become visible in order of steps. Gradients of later steps wait at their senders.
// Clipping and the skipping of steps that are not finite need the norm over all shards: every shard tells the waiting
// workers its parts of the sum (Sums), any of them joins these and tells all shards (Close). So shards never wait for each
// other's messages, and the worker's retries are the only ones there are.
//
// Asynchronous. Each push updates its chunk at once, with a rate that sinks with its staleness, the updates since the
// parameters it was computed on; after Zhang, Gupta, Lian, Liu, "Staleness-aware Async-SGD", IJCAI 2016. Clipping is the
// worker's, of its own gradient.
//
// Work counts once by its name, whoever sends it; view and incarnation only fence.
#pragma once
#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "optim/optimizer.h"
#include "paramserver/chunk_sum.h"
#include "paramserver/decision.h"
#include "paramserver/grants.h"
#include "paramserver/limits.h"
#include "paramserver/messages.h"
#include "paramserver/sharding.h"
#include "paramserver/snapshots.h"
#include "paramserver/work_log.h"

namespace dtrain::ps {

enum class Mode { kSync, kStale, kAsync };           // kSync is kStale with bound 0
enum class Reduce { kSum, kMean };                   // kMean divides by the weight of the whole step; kSum leaves the sum as it is
enum class StalenessRule { kNone, kLinear, kSqrt };  // the rate divided by nothing, staleness, its root; below 1 counts as 1

// kSqrt for Adam and AdamW, whose step does not grow with the gradient; kLinear for the others.
StalenessRule DefaultStalenessRule(OptimizerType type);

struct ShardOptions {
  uint64_t job = 0;
  int server = 0;
  uint64_t incarnation = 0;  // of this process

  Mode mode = Mode::kSync;
  int64_t staleness_bound = 0;  // kStale
  int64_t leaves = 1;           // of a step; with backup workers the number of gradients that count
  bool backup_workers = false;  // there are more workers than leaves; needs kSync
  Reduce reduce = Reduce::kMean;
  double clip_norm = 0;          // 0: no clipping. Of the mean (kMean) or the sum (kSum)
  bool skip_non_finite = false;  // look at every gradient before it is applied; else the caller stops by the loss
  OptimizerOptions optimizer;
  std::vector<GroupOptions> groups = {{}};
  // A function of progress: the step, or in kAsync the chunk's updates / updates_per_step.
  std::function<double(Step)> learning_rate = [](Step) { return 0.01; };
  int64_t updates_per_step = 1;  // kAsync: the number of workers
  StalenessRule staleness_rule = StalenessRule::kLinear;

  int64_t shard_bytes_max = kShardBytesMax;
  int64_t held_bytes_max = kHeldBytes;
  Duration lease = kLease;
  int64_t checkpoint_every_steps = 0;  // 0: never asks to be saved
};

// kInvalidArgument names the option that is out of its range.
Status CheckShardOptions(const ShardOptions& options);

// Everything that a shard needs to go on: of one closed step, or in kAsync of a moment.
struct ShardState {
  Table table;
  int server = 0;
  int64_t version = 0, updates = 0;       // closed steps; those of them that were applied
  std::vector<int64_t> chunk_versions;    // of this server's chunks
  std::vector<float> parameters;          // of this server's range, padding included
  std::vector<std::vector<float>> slots;  // of the optimizer, each like parameters
  WorkLog work{0};                        // kAsync
};

struct Outgoing {
  int32_t to = kNoWorker;  // a worker, or kNoWorker for the coordinator
  Message message;
  Pin pin = 0;  // Parameters: holds message.elements; Release it once they are written
};

// A piece of work that has just been counted.
struct TakenWork {
  Work work;
  int chunk = 0;
  Sender sender;
  int64_t staleness = 0;
};

// What is to be done, in this order: write the decisions to the journal and sync it, then save, then send. Effects are carried out in the
// order in which they came.
struct Effects {
  std::vector<Decision> decisions;
  std::optional<Step> save;  // Export() now holds version `save`, before anything else is received
  std::vector<Outgoing> messages;
  std::vector<TakenWork> taken;
};

using StalenessHistogram = std::array<int64_t, kStalenessBuckets>;  // the last bucket counts all from there on

class Shard {
 public:
  // `decisions`: of the journal, if there is one. Options were checked.
  Shard(ShardOptions options, const std::vector<Decision>& decisions);

  // `message` was decoded; `from` is who the transport knows it to be from, a worker or kNoWorker for the coordinator.
  Effects Receive(int32_t from, const Message& message, TimePoint now);
  // Something that waited for time or for a reader may go on. Call it from time to time, once a lease at least.
  Effects Tick(TimePoint now);
  // The elements of a pinned answer were written (or never will be).
  Effects Release(Pin pin, TimePoint now);
  // Empty if the pin's lease is over and its memory was needed: what was read of it is void, the reader asks again.
  std::span<const float> Read(Pin pin) const { return snapshots_->Read(pin); }

  bool ready() const { return ready_; }
  int64_t version() const { return version_; }
  int64_t view() const { return view_; }
  const Table& table() const { return table_; }
  const Sharding& sharding() const { return sharding_; }
  std::span<const float> ChunkParameters(int chunk) const { return snapshots_->Current(chunk - first_chunk_); }
  int64_t chunk_version(int chunk) const { return snapshots_->version(chunk - first_chunk_); }
  int64_t held_bytes() const { return held_bytes_; }
  const std::map<int32_t, StalenessHistogram>& staleness() const { return staleness_; }  // by worker
  int64_t not_needed() const { return grants_ ? grants_->not_needed() : 0; }

  ShardState Export() const;  // ready
  // Goes on from `state` in `view`, which has no members until OpenView. kFailedPrecondition if it fits neither options nor itself.
  Status Restore(const ShardState& state, int64_t view);

 private:
  struct Input {
    SubTree unit;
    double weight = 0, loss_sum = 0;
    bool finite = true;
  };
  // What is known of a step beside its gradients.
  struct Round {
    std::map<int64_t, Input> inputs;  // by first leaf
    int64_t leaves_in = 0;
    std::map<int32_t, bool> waiters;   // worker -> wants parameters
    std::vector<SumPart> parts;        // once all gradients are in, if the norm is needed
    std::optional<double> square_sum;  // told by Close
  };
  struct HeldPush {
    Sender sender;
    Push push;
    std::vector<float> elements;
  };
  struct Deferred {
    int32_t worker;
    Work work;
  };

  // shard.cc
  bool Fenced(int32_t from, const Message& message, Effects& effects);
  void OnOpenView(const Message& message, Effects& effects);
  void OnRegister(const Sender& from, const Register& message, Effects& effects);
  void OnInitial(const Sender& from, const Message& message, Effects& effects);
  void OnPull(const Sender& from, const Pull& pull, Effects& effects, TimePoint now);
  void OnClaim(const Sender& from, const Claim& claim, Effects& effects);
  void Say(int32_t to, Body body, Effects& effects) const;
  void Refuse(int32_t to, const Status& status, Effects& effects) const;  // what is received at the moment
  void SendParameters(int32_t to, int chunk, int64_t version, Effects& effects, TimePoint now);
  void AnswerPulls(int chunk, Effects& effects, TimePoint now);
  Status Adopt(const Table& table);                                 // makes room
  StatusOr<int> FindChunk(int64_t offset, int64_t elements) const;  // local number
  void ApplyToChunk(int chunk, const UpdateScalars& scalars, std::span<const float> gradient);
  int64_t bound() const { return options_.mode == Mode::kStale ? options_.staleness_bound : 0; }
  const Chunk& chunk(int local) const { return sharding_.chunks[first_chunk_ + local]; }
  int chunk_count() const { return end_chunk_ - first_chunk_; }

  // shard_sync.cc
  void OnPush(const Sender& from, const Message& message, Effects& effects, TimePoint now);
  void OnFinish(const Sender& from, const Finish& finish, Effects& effects, TimePoint now);
  void OnClose(const Sender& from, const Close& close, Effects& effects, TimePoint now);
  Status CheckPush(const Push& push) const;
  void Take(const Sender& from, int chunk, const Push& push, std::span<const float> elements, Effects& effects);
  void TakeHeld(int chunk, Effects& effects);
  void Hold(const Sender& from, int chunk, const Message& message, Effects& effects);
  Closed ReportOf(Step step) const;  // of a step that is closed
  void TryClose(Effects& effects, TimePoint now);
  void CloseStep(Closed report, Effects& effects, TimePoint now);
  void TellClosed(int32_t worker, const Closed& report, bool parameters, Effects& effects, TimePoint now);
  bool needs_norm() const { return options_.clip_norm > 0 || options_.skip_non_finite; }

  // shard_async.cc
  void OnPushAsync(const Sender& from, const Message& message, Effects& effects, TimePoint now);
  void CountStaleness(int32_t worker, int64_t staleness);

  ShardOptions options_;
  std::unique_ptr<Optimizer> optimizer_;
  std::set<Step> skips_decided_;
  std::optional<Grants> grants_;

  const Message* received_ = nullptr;  // inside of Receive
  int64_t view_ = 0;
  std::map<int32_t, uint64_t> members_;  // worker -> incarnation
  std::set<int32_t> member_numbers_;

  // From registration on.
  Table table_{.version = 0};  // 0: none yet
  FlatLayout layout_;
  Sharding sharding_;
  int first_chunk_ = 0, end_chunk_ = 0;
  std::vector<int> groups_of_block_;
  std::optional<Snapshots> snapshots_;
  std::vector<std::vector<std::vector<float>>> slots_;  // by chunk, then by slot
  std::vector<bool> initialised_;
  bool ready_ = false;
  int64_t version_ = -1, updates_ = 0;

  // Synchronous: the open step is version_.
  std::vector<ChunkSum> sums_;
  std::map<Step, Round> rounds_;                      // from version_ to version_ + bound()
  std::map<std::pair<int, int64_t>, HeldPush> held_;  // by chunk and first leaf, of the open step
  int64_t held_bytes_ = 0;
  std::map<std::tuple<Step, int, int64_t>, Deferred> deferred_;  // by step, chunk and first leaf
  std::deque<Closed> closed_;                                    // of the newest steps
  std::map<std::pair<int32_t, int>, Pull> pulls_;                // by worker and chunk

  // Asynchronous.
  WorkLog work_{0};
  std::map<int32_t, StalenessHistogram> staleness_;
};

}  // namespace dtrain::ps
