// The gradient exchange: what turns the gradients that the ranks of a job compute into the parameters of the next step.
// One contract for every strategy (one process, shared memory, ring, parameter server) and one test body for all
// implementations (tests/trainer/exchange_contract.h). Torch-free: parameters and gradients are flat buffers.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bucket_plan.h"
#include "base/clock.h"
#include "base/flat_layout.h"
#include "base/leaf_tree.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "base/trace.h"
#include "base/view.h"
#include "optim/optimizer.h"

namespace dtrain {

// Who turns reduced gradients into parameters.
enum class ApplyBy {
  kExchange,  // the exchange, inside the reduction
  kCaller,    // the caller: Finish leaves the reduced gradient in the gradient buffer and touches no parameter
};

// Where a rank's gradient lies when it is offered.
enum class GradientPlace {
  kFlat,     // all of it in flat().gradients
  kInPlace,  // what this rank itself reads stays where backward left it, so it is never copied; not with ApplyBy::kCaller
};

// Floating-point buffers (BatchNorm's running values) after a step.
enum class BufferRule {
  kAverage,  // the mean over the leaves of all ranks, in tree order
  kFirst,    // the mean over rank 0's leaves, on all ranks
  kLocal,    // the mean over the rank's own leaves: every rank has buffers of its own
};

// What to do with a step whose loss or gradient is not finite.
enum class NanPolicy { kStop, kSkip, kRollBack };

// The flat buffers of one rank, made by its exchange and valid as long as it lives.
// P elements of parameters and gradients (layout.elements), F of floating-point buffers (BatchNorm's running values).
struct FlatBuffers {
  FlatLayout layout;
  std::span<float> parameters;  // P; on one host all ranks may share one copy, so only the exchange writes here
  // P less kept.size(): the gradient without the elements of `kept`, in order. Begin leaves it, the caller overwrites it.
  std::span<float> gradients;
  ElementRange kept;  // what the exchange reads where backward left it (StepInput::gradients_of); begins and ends on blocks
  FlatLayout buffer_layout;
  std::span<float> buffers;      // F; what every leaf of the step starts from
  std::span<float> buffer_sums;  // F; the sum over this rank's leaves, in tree order, of the buffers after the leaf

  // Where element `element` of the layout, which is not in `kept`, lies in `gradients`.
  float* gradient(int64_t element) const { return gradients.data() + element - (element < kept.end ? 0 : kept.size()); }
};

// Decisions that all ranks must take in the same step. Made in one place (the coordinator), carried by Begin.
struct Decisions {
  bool save = false;    // write a checkpoint of the state before this step
  bool stop = false;    // end before this step, resumable; always with save
  bool finish = false;  // end before this step: the time of train.duration is over
  double factor = 1;    // of the learning rate (plateau schedule, after a roll back)

  bool operator==(const Decisions&) const = default;
};

// What this rank computes in a step.
struct Assignment {
  View view;
  LeafRange leaves;          // of this rank
  int64_t leaves_total = 1;  // M
  double learning_rate = 0;
  Decisions decisions;
};

// What a rank knows of its own leaves. `weight` and `loss_sum` are sums over the rank's leaves in tree order.
struct StepInput {
  double weight = 0;  // samples, tokens or class weights behind the gradient sum
  double loss_sum = 0;
  bool finite = true;  // false if this rank saw a loss that is not
  // For each entry of the layout whether it got a gradient here; empty: all did.
  std::span<const uint8_t> touched;
  // Where the gradient of each entry of the layout lies; read only for elements in flat().kept, empty if there are none.
  std::span<const float* const> gradients_of;
};

struct StepReport {
  double weight = 0;         // global
  double loss_sum = 0;       // global
  bool finite = true;        // on all ranks, gradients included where a norm or the policy needs them
  bool applied = true;       // false for a step that was skipped or that the policy stops at
  double gradient_norm = 0;  // of the mean gradient before clipping; 0 unless clipping is on
  int ranks = 1;             // that contributed
  int64_t staleness_steps = 0;
  int64_t bytes = 0;               // moved by this rank
  std::vector<int32_t> untouched;  // entries of the layout that got a gradient on no rank
  double reduce_s = 0, wait_s = 0, apply_s = 0;
};

// Whole named tensors at a closed step: parameters, optimizer slots ("exp_avg/fc1.weight"), buffers.
struct ExchangeState {
  Step step = 0;  // the step that comes next
  int64_t updates = 0;
  double factor = 1;              // of the learning rate, in force for `step`
  std::vector<HostTensor> model;  // parameters and buffers, by name
  std::vector<HostTensor> optimizer;
};

// Calls body(begin, end) for ranges that cover [0, count), each of at least `grain` but the last, at once where there are
// threads for it. Returns when all are done.
using ParallelFor = std::function<void(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body)>;

struct ExchangeOptions {
  ApplyBy apply = ApplyBy::kExchange;
  GradientPlace place = GradientPlace::kFlat;
  int64_t leaves = 1;         // M, leaves of a step over all ranks
  bool reproducible = false;  // sums in the tree over the leaves: M is a power of two
  OptimizerOptions optimizer;
  std::vector<GroupOptions> groups = {GroupOptions{}};
  double clip_norm = 0;  // 0: no clipping
  // With kStop a gradient that is not finite is noticed by the next step's loss (nothing is saved in between: a snapshot
  // that is not finite is refused); the other policies look at every gradient before it is applied.
  NanPolicy nan_policy = NanPolicy::kStop;
  // The learning rate of a step as a function of (step, factor); pure, the same on every rank.
  std::function<double(Step, double)> learning_rate = [](Step, double) { return 0.01; };
  // Asked once a step, on rank 0 only; what it says holds on all ranks from the next Begin.
  std::function<Decisions()> decide = [] { return Decisions{}; };
  BufferRule buffer_rule = BufferRule::kAverage;
  // A tensor that got a gradient on no rank keeps its value and slots, as torch's optimizers have it; otherwise its gradient is
  // zero and decay and momentum go on. Not with Adam and AdamW, whose correction would need a count of updates for each tensor.
  bool skip_untouched = false;
  BucketOptions buckets;
  Trace* trace = nullptr;  // may be null; outlives the exchange
  // The threads of this rank, and how to use them. Element by element and block by block, so that bits do not depend on them.
  int threads = 1;
  ParallelFor parallel_for = [](int64_t count, int64_t, const auto& body) { body(0, count); };
};

class GradientExchange {
 public:
  virtual ~GradientExchange() = default;
  virtual const FlatBuffers& flat() const = 0;
  virtual const std::vector<Bucket>& buckets() const = 0;

  // What this rank computes in `step`; parameters and buffers for it are in place. Carries the decisions that all ranks
  // must take in the same step. kInvalidArgument unless `step` follows the last one that finished (or was loaded).
  virtual StatusOr<Assignment> Begin(Step step, Deadline deadline) = 0;
  // One bucket, complete: gradients hold the sum over this rank's leaves; may start sending. Never twice for a step.
  virtual Status Offer(Step step, BucketId bucket) = 0;
  // OK: parameters hold what step + 1 uses. kAborted: the view changed; call Begin again for the same step, compute only
  // leaves that are new to this rank, offer nothing twice. kUnavailable: the job failed, the message says why.
  // A step that is not finite is never applied: the report says so and the caller acts on its policy.
  virtual StatusOr<StepReport> Finish(Step step, const StepInput& input, Deadline deadline) = 0;
  // At a closed step: whole tensors, by name. Every rank may call it alone.
  virtual StatusOr<ExchangeState> Snapshot() = 0;
  // Puts a state in place on every rank; collective: every rank passes the same. A state without optimizer tensors
  // starts the optimizer afresh. kInvalidArgument lists every tensor that is missing, unknown or of another shape, and
  // changes nothing.
  virtual Status Load(const ExchangeState& state) = 0;
};

}  // namespace dtrain
