#include "trainer/torch_training.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <malloc.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <thread>

#include "base/check.h"
#include "base/log.h"
#include "base/rng.h"
#include "cluster/thread_budget.h"
#include "datasets/loader.h"
#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/checkpoint/checkpoint_writer.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/job_plan.h"
#include "trainer/parameter_hash.h"
#include "trainer/phase_clock.h"
#include "trainer/replica_check.h"
#include "trainer/report/run_directory.h"
#include "trainer/report/whole_file.h"
#include "trainer/start_state.h"
#include "trainer/storage/posix_storage.h"
#include "trainer/strategy.h"
#include "trainer/timeline.h"
#include "trainer/torch_flat_model.h"
#include "trainer/torch_gradient_collector.h"
#include "trainer/torch_parallel.h"
#include "trainer/torch_session.h"
#include "trainer/version.h"

namespace dtrain {
namespace {

constexpr Duration kSetUpLimit = std::chrono::minutes(10);  // the slowest rank may read its data from a slow disk
constexpr Duration kSaveLimit = std::chrono::minutes(30);
constexpr double kProgressSeconds = 0.2;
constexpr Step kWarmUpSteps = 20;                                    // left out of samples_per_s
constexpr Step kAdviceSteps = 100;                                   // behind them, that advice looks at
constexpr Duration kCausePatience = std::chrono::milliseconds(500);  // for the coordinator to say why a peer ended
constexpr int kRollBacksMax = 5;
constexpr int64_t kSkipsInARowMax = 100;

// What must be equal on all ranks, and on a resume in reproducible mode, for the same bits.
Value BuildOf(int threads) {
  Value build = Value::Map();
  build.Set("dtrain", kVersion);
  build.Set("compiler", kCompiler);
  build.Set("torch", TORCH_VERSION);
  build.Set("cpu_capability", at::get_cpu_capability());
  build.Set("threads", threads);
  return build;
}

class Training {
 public:
  Training(const TrainingJob& job, JobChannel& channel)
      : job_(job), config_(job.config), channel_(channel), store_(PosixStorage(), job.run_directory, RetentionOf(job.config)) {}

  Status Run() {
    RETURN_IF_ERROR(SetUp());
    RETURN_IF_ERROR(Preflight());
    RETURN_IF_ERROR(StartState());
    ReportStart();
    if (job_.dry_run) return CheckDisk();
    Status status = Loop();
    if (status.ok()) status = Finish();
    return status;
  }

 private:
  // ---- before the first step

  Status SetUp() {
    ASSIGN_OR_RETURN(hosts_, GatherHosts(channel_, Deadline::In(kSetUpLimit)));
    threads_ = ConfiguredThreads(config_, hosts_.cores, hosts_.local_size);
    ASSIGN_OR_RETURN(Session session, OpenSession(config_, threads_));
    session_.emplace(std::move(session));
    ASSIGN_OR_RETURN(FlatModel flat, FlatModel::Make(session_->model));
    flat_.emplace(std::move(flat));
    auto plan = MakeJobPlan(config_, channel_.world_size(), session_->data.train->size());
    if (!plan.ok()) return WithExitCode(plan.status(), ExitCodeOf(plan.status(), ExitCode::kConfiguration));
    plan_ = *std::move(plan);
    plan_.exchange.decide = [this] { return Decide(); };
    plan_.exchange.trace = &trace_;
    early_stop_ = EarlyStopOf(config_);
    plan_.exchange.threads = threads_;
    plan_.exchange.parallel_for = TorchParallelFor();
    // The tree over the leaves needs sums beside the gradients; a plain sum is taken by autograd itself.
    plan_.exchange.place = plan_.reproducible ? GradientPlace::kFlat : GradientPlace::kInPlace;
    ASSIGN_OR_RETURN(ChosenExchange chosen, MakeExchange(job_, plan_.exchange, channel_, hosts_, flat_->layout(), flat_->buffer_layout(),
                                                         Deadline::In(kSetUpLimit)));
    exchange_ = std::move(chosen.exchange);
    strategy_ = std::move(chosen.description);
    ASSIGN_OR_RETURN(const Sampler sampler, Sampler::Make(PlannedSampler(config_, plan_)));
    sampler_.emplace(sampler);
    ASSIGN_OR_RETURN(loader_, Loader::Make(session_->data.train, sampler,
                                           {.threads = static_cast<int>(config_.Int("data.workers", 1)),
                                            .prefetch_batches = static_cast<int>(config_.Int("data.prefetch", 4)),
                                            .augment = true}));
    return OkStatus();
  }

  // Every rank must compute with the same things; rank 0 is what the others are compared with.
  Status Preflight() {
    Value mine = BuildOf(threads_);
    mine.Set("data", session_->data.train->fingerprint());
    mine.Set("model", ParameterHash(flat_->InitialState().model));
    mine.Set("config", Join(job_.differences, "; "));
    ASSIGN_OR_RETURN(const auto all, channel_.AllGather("preflight", mine.ToJson(), Deadline::In(kSetUpLimit)));
    ASSIGN_OR_RETURN(const Value first, ParseJson(all[0]));
    std::vector<std::string> differences;
    for (size_t rank = 1; rank < all.size(); ++rank) {
      ASSIGN_OR_RETURN(const Value other, ParseJson(all[rank]));
      const std::string who = Cat("rank ", rank, " on ", hosts_.host_of[rank], ": ");
      if (const std::string config = other.String("config", ""); !config.empty()) differences.push_back(Cat(who, config));
      for (const auto& [name, value] : *first.if_map()) {
        const bool speed_only = !plan_.reproducible && (name == "threads" || name == "cpu_capability");
        if (name == "config" || speed_only || other.At(name) == value) continue;
        differences.push_back(Cat(who, name, " is ", other.At(name).ToJson(), ", on rank 0 ", value.ToJson()));
      }
    }
    if (differences.empty()) return OkStatus();
    return WithExitCode(
        FailedPrecondition("compare the ranks before step 0: they would not compute the same\n  ", Join(differences, "\n  ")),
        ExitCode::kSetUp);
  }

  // Puts in place what the run starts from: a checkpoint of its own, a file of somebody else's, or the initial values.
  Status StartState() {
    ASSIGN_OR_RETURN(std::optional<Checkpoint> checkpoint, ResumeFrom());
    ExchangeState state;
    if (checkpoint) {
      RETURN_IF_ERROR(CheckResume(checkpoint->state));
      RETURN_IF_ERROR(TakeCheckpoint(std::move(*checkpoint), &state));
      resumed_from_ = state.step;
    } else if (!job_.init_from.empty()) {
      auto tensors = LoadInitialTensors(PosixStorage(), job_.init_from, job_.init_names);
      if (!tensors.ok()) return WithExitCode(tensors.status(), ExitCodeOf(tensors.status(), ExitCode::kSetUp));
      state.model = *std::move(tensors);
      RETURN_IF_ERROR(WithExitCode(flat_->LoadOtherTensors(&state.model), ExitCode::kSetUp));
    } else {
      state = flat_->InitialState();
    }
    const Status loaded = exchange_->Load(state);
    if (!loaded.ok()) return WithExitCode(Annotate(loaded, resumed_from_ ? "resume" : "start"), ExitCodeOf(loaded, ExitCode::kSetUp));
    RETURN_IF_ERROR(CompareStarts(state));
    flat_->Bind(exchange_->flat());
    collector_.emplace(exchange_->flat(), exchange_->buckets(), flat_->trainable(),
                       CollectorOptions{.overlap = config_.Bool("strategy.overlap", true), .on_ready = [this](BucketId bucket) {
                                          if (offered_.ok()) offered_ = exchange_->Offer(step_, bucket);
                                        }});
    first_step_ = state.step;
    return OkStatus();
  }

  // Every rank has read files of its own host: do they hold the same?
  Status CompareStarts(const ExchangeState& state) {
    std::vector<HostTensor> others = flat_->OtherTensors();
    const std::string mine =
        Cat("step ", state.step, ", ", state.updates, " updates, factor ", state.factor, ", model ", ParameterHash(state.model),
            ", optimizer ", ParameterHash(state.optimizer), ", rest ", ParameterHash(others));
    ASSIGN_OR_RETURN(const auto all, channel_.AllGather("start", mine, Deadline::In(kSetUpLimit)));
    std::vector<std::string> differences;
    for (size_t rank = 1; rank < all.size(); ++rank) {
      if (all[rank] != all[0])
        differences.push_back(Cat("rank ", rank, " on ", hosts_.host_of[rank], ": ", all[rank], "\n    rank 0: ", all[0]));
    }
    if (differences.empty()) return OkStatus();
    return WithExitCode(WithHint(FailedPrecondition("compare what the ranks start from: it is not the same\n  ", Join(differences, "\n  ")),
                                 "ranks read checkpoints and --init-from on their own host: share the run directory and that file"),
                        ExitCode::kSetUp);
  }

  // Rank 0 chooses, so that all ranks go on from the same checkpoint even where a damaged one is passed over.
  StatusOr<std::optional<Checkpoint>> ResumeFrom() {
    std::optional<Checkpoint> checkpoint;
    std::string chosen = "none";
    Status status;
    if (channel_.rank() == 0 && !job_.fresh) {
      auto newest = store_.LoadNewest();
      status = newest.status();
      if (newest.ok()) checkpoint = *std::move(newest);
      if (checkpoint) chosen = Cat(checkpoint->step);
    }
    if (!status.ok()) return WithExitCode(status, ExitCodeOf(status, ExitCode::kSetUp));
    ASSIGN_OR_RETURN(const auto all, channel_.AllGather("resume", chosen, Deadline::In(kSetUpLimit)));
    if (all[0] == "none" || channel_.rank() == 0) return checkpoint;
    const auto step = ParseInt(all[0]);
    if (!step) return Internal("resume: rank 0 chose '", all[0], "'; expected the step of a checkpoint");
    auto same = store_.Load(*step);
    if (!same.ok()) {
      return WithExitCode(WithHint(Annotate(same.status(), Cat("rank ", channel_.rank(), " on ", hosts_.host_of[channel_.rank()])),
                                   "every rank reads rank 0's checkpoints: the hosts must share the run directory (run.dir)"),
                          ExitCode::kSetUp);
    }
    return std::optional<Checkpoint>(*std::move(same));
  }

  Status CheckResume(const Value& saved) const {
    const std::string fingerprint = saved.String("data_fingerprint", "");
    if (!fingerprint.empty() && fingerprint != session_->data.train->fingerprint()) {
      return WithExitCode(WithHint(FailedPrecondition("resume: the training data is not what the run began with (fingerprint ",
                                                      session_->data.train->fingerprint().substr(0, 12), ", checkpoint has ",
                                                      fingerprint.substr(0, 12), ")"),
                                   "restore the data, or start anew with --fresh"),
                          ExitCode::kSetUp);
    }
    if (!plan_.reproducible) return OkStatus();
    const Value now = BuildOf(threads_);
    std::vector<std::string> differences;
    if (const auto* build = saved.At("build").if_map()) {
      for (const auto& [name, value] : *build) {
        if (!(now.At(name) == value)) differences.push_back(Cat(name, " was ", value.ToJson(), ", is ", now.At(name).ToJson()));
      }
    }
    if (differences.empty()) return OkStatus();
    return WithExitCode(
        WithHint(FailedPrecondition("resume with run.reproducible: the bits would not be the same: ", Join(differences, "; ")),
                 "go on with run.reproducible=false, or where and as the run began"),
        ExitCode::kSetUp);
  }

  Status TakeCheckpoint(Checkpoint checkpoint, ExchangeState* state) {
    state->step = checkpoint.step;
    state->updates = checkpoint.state.Int("updates", checkpoint.step);
    state->model = std::move(checkpoint.model);
    state->optimizer = std::move(checkpoint.optimizer);
    RETURN_IF_ERROR(WithExitCode(flat_->LoadOtherTensors(&state->model), ExitCode::kSetUp));
    state->factor = factor_ = checkpoint.state.Double("factor", 1);
    elapsed_before_s_ = checkpoint.state.Double("elapsed_s", 0);
    early_stop_.Restore(checkpoint.state.At("early_stop"));
    metrics_ = checkpoint.state.At("metrics").if_map() != nullptr ? checkpoint.state.At("metrics") : Value(Value::Map());
    saved_step_ = checkpoint.step;
    return OkStatus();
  }

  double CheckpointBytes() const {
    const double parameters = static_cast<double>(flat_->layout().bytes());
    return parameters * static_cast<double>(1 + slots()) + static_cast<double>(flat_->buffer_layout().bytes());
  }
  int64_t slots() const {
    const auto optimizer = MakeOptimizer(plan_.exchange.optimizer);
    return optimizer.ok() ? static_cast<int64_t>((*optimizer)->slot_names().size()) : 0;
  }

  Status CheckDisk() const {
    std::error_code error;
    const auto space = std::filesystem::space(job_.run_directory, error);
    const double needed = CheckpointBytes() * static_cast<double>(config_.Int("checkpoint.keep_last", 2) + 1);
    if (error || static_cast<double>(space.available) >= needed) return OkStatus();
    return WithExitCode(
        WithHint(ResourceExhausted("dry run: ", HumanBytes(static_cast<double>(space.available)), " free under ", job_.run_directory,
                                   "; expected ", HumanBytes(needed), " for the checkpoints that are kept"),
                 "free some space, set run.dir elsewhere, or lower checkpoint.keep_last"),
        ExitCode::kSetUp);
  }

  void ReportStart() {
    if (channel_.rank() != 0) return;
    Value event = Value::Map();
    event.Set("event", "start");
    event.Set("version", kVersion);
    event.Set("torch", TORCH_VERSION);
    event.Set("ranks", channel_.world_size());
    event.Set("threads", threads_);
    event.Set("cores", hosts_.cores);
    event.Set("device", "cpu");
    event.Set("reproducible", plan_.reproducible);
    event.Set("strategy", strategy_);
    event.Set("model.type", config_.String("model.type", ""));
    event.Set("model.parameters", flat_->parameter_count());
    event.Set("model.trainable", TrainableCount());
    event.Set("model.bytes", flat_->layout().bytes());
    event.Set("data.name", session_->data.train->schema().name);
    event.Set("data.note", session_->data.note);
    event.Set("data.policy", sampler_->Policy());
    event.Set("batch", plan_.batch.ToString());
    event.Set("optimizer", OptimizerText(config_));
    event.Set("steps_per_epoch", plan_.steps_per_epoch);
    if (plan_.total_steps) event.Set("total_steps", *plan_.total_steps);
    if (plan_.seconds_max) event.Set("seconds_max", *plan_.seconds_max);
    if (resumed_from_) event.Set("resumed_from", *resumed_from_);
    event.Set("memory.parameters", flat_->layout().bytes());
    event.Set("memory.gradients", flat_->layout().bytes() * channel_.world_size());
    event.Set("memory.slots", flat_->layout().bytes() * slots());
    event.Set("memory.extra", plan_.reproducible ? flat_->layout().bytes() * ExtraGradients() * channel_.world_size() : 0);
    event.Set("run_directory", job_.run_directory);
    event.Set("dry_run", job_.dry_run);
    channel_.Report(event);
  }

  int64_t TrainableCount() const {
    int64_t count = 0;
    for (const FlatEntry& entry : flat_->layout().entries) count += entry.info.elements();
    return count;
  }

  // Copies of the gradient that a rank keeps while it adds up its leaves.
  int64_t ExtraGradients() const {
    const int64_t own = std::max<int64_t>(1, plan_.batch.leaves / channel_.world_size());
    int64_t levels = 0;
    while ((int64_t{2} << levels) <= own) ++levels;
    return std::max<int64_t>(0, levels - 1);
  }

  // ---- the loop

  // Asked on rank 0 once a step; what it says holds on all ranks from the next Begin.
  Decisions Decide() {
    Decisions decisions;
    decisions.factor = factor_;
    const Requests requests = channel_.requests();
    decisions.stop = requests.stop;
    decisions.save = requests.stop || requests.saves > saves_done_;
    saves_asked_ = requests.saves;
    const double now_s = ElapsedSeconds();
    for (const Interval& interval : plan_.save) {
      if (interval.seconds && now_s - saved_at_s_ >= *interval.seconds) decisions.save = true;
    }
    if (decisions.save) saved_at_s_ = now_s;
    decisions.finish = plan_.seconds_max && now_s >= *plan_.seconds_max;
    return decisions;
  }

  double ElapsedSeconds() const { return elapsed_before_s_ + Seconds(SystemClock().Now() - begun_); }

  Deadline StepDeadline() const { return Deadline::In(FromSeconds(config_.Double("strategy.stall", 600) + 60)); }

  Status Loop() {
    if (channel_.rank() == 0) writer_.emplace(store_);
    begun_ = SystemClock().Now();
    clock_.emplace();
    clock_->TraceTo(&trace_);
    saved_at_s_ = ElapsedSeconds();
    step_ = first_step_;
    buffer_sum_.emplace(exchange_->flat().buffer_sums);
    session_->model->train();
    bool started = false;
    while (!plan_.total_steps || step_ < *plan_.total_steps) {
      if (step_ - first_step_ == kWarmUpSteps) {
        warm_s_ = ElapsedOfTraining();
        warm_exchange_s_ = clock_->seconds(Phase::kExchange);
        warm_compute_s_ = clock_->seconds(Phase::kForwardBackward);
      }
      if (step_ - first_step_ == kWarmUpSteps + kAdviceSteps) AdviseOnExchange();
      channel_.Advance(step_);
      RETURN_IF_ERROR(channel_.Health());
      RETURN_IF_ERROR(TraceSteps());
      ASSIGN_OR_RETURN(const Assignment assignment, exchange_->Begin(step_, StepDeadline()));
      if (!started) {
        started = true;
        loader_->Start(step_, assignment.leaves.first, assignment.leaves.count, plan_.total_steps.value_or(INT64_MAX));
      }
      learning_rate_ = assignment.learning_rate;
      clock_->Lap(Phase::kOther);
      const Decisions& decisions = assignment.decisions;
      if (decisions.save) {
        saves_done_ = saves_asked_;  // here and not when it is decided: a roll back in between forgets the decision
        RETURN_IF_ERROR(Save());
      }
      if (decisions.stop) return Stopped();
      if (decisions.finish) break;
      if (writer_) RETURN_IF_ERROR(SaveFailure(writer_->Poll()));
      StepInput input;
      RETURN_IF_ERROR(ComputeLeaves(assignment, &input));
      for (const BucketId bucket : collector_->RemainingBuckets()) {
        if (offered_.ok()) offered_ = exchange_->Offer(step_, bucket);
      }
      if (!offered_.ok()) return CauseOf(offered_);
      channel_.SetWaiting(true);
      const auto finished = exchange_->Finish(step_, input, StepDeadline());
      if (!finished.ok()) return CauseOf(finished.status());
      const StepReport& report = *finished;
      RETURN_IF_ERROR(CheckUnused(report));
      channel_.SetWaiting(false);
      clock_->Lap(Phase::kExchange);
      clock_->Move(Phase::kExchange, Phase::kOptimizer, report.apply_s);
      samples_ += plan_.batch.global;
      flat_->TakeBuffers();
      if (!report.applied) flat_->TakeIntegersBack();
      if (!report.finite) {
        bool again = false;
        RETURN_IF_ERROR(NotFinite(report, &again));
        if (again) {
          started = false;
          continue;
        }
      } else {
        skips_in_a_row_ = 0;
        TakeProgress(report);
      }
      ++step_;
      if (plan_.check_replicas && plan_.check_replicas->Due(step_)) {
        const FlatBuffers& flat = exchange_->flat();
        RETURN_IF_ERROR(
            WithExitCode(CompareReplicas(channel_, hosts_, flat.layout, flat.parameters, step_, StepDeadline()), ExitCode::kRankFailed));
      }
      if (plan_.EvaluateAfter(step_)) {
        RETURN_IF_ERROR(EvaluateNow());
        if (early_stop_.Take(metrics_)) {
          ReportText("note", Cat("early stop: ", early_stop_.metric, " has not improved for ", early_stop_.patience, " evaluations"));
          break;
        }
      }
      if (plan_.SaveAfter(step_)) RETURN_IF_ERROR(Save());
    }
    return OkStatus();
  }

  // Once, early in a run: does the exchange outweigh the computing, and what would help most?
  void AdviseOnExchange() {
    const double exchange_s = clock_->seconds(Phase::kExchange) - warm_exchange_s_;
    const double compute_s = clock_->seconds(Phase::kForwardBackward) - warm_compute_s_;
    if (channel_.world_size() == 1 || exchange_s <= compute_s) return;
    const std::string setting = hosts_.local_size > hosts_.cores
                                    ? Cat("there are ", hosts_.local_size, " ranks on ", hosts_.cores, " cores: fewer ranks (-n) help most")
                                    : Cat("a larger data.batch.global makes the exchange rarer and helps most");
    ReportText("note", Cat("the exchange outweighs the computing (", Fixed(1000 * exchange_s / kAdviceSteps, 2), " ms a step against ",
                           Fixed(1000 * compute_s / kAdviceSteps, 2), " ms): ", setting, "; log.trace and dtrain why say more"));
  }

  // Around the steps [begin, end) of log.trace.steps.
  Status TraceSteps() {
    clock_->SetStep(step_);
    if (!plan_.trace) return OkStatus();
    const bool inside = step_ >= plan_.trace->first && step_ < plan_.trace->second;
    if (trace_.on() && (!inside || step_ != traced_.second + 1)) return WriteTimeline();  // behind its end, or rolled back
    if (inside && !trace_.on() && traced_.first < 0) {
      trace_.Start();
      traced_.first = step_;
    }
    if (trace_.on()) traced_.second = step_;
    return OkStatus();
  }

  Status WriteTimeline() {
    trace_.Stop();
    if (trace_.dropped() > 0) Log(LogLevel::kWarning, Cat("the timeline lacks ", trace_.dropped(), " spans: too many in its steps"));
    clock_->Lap(Phase::kOther);
    ASSIGN_OR_RETURN(const Value timeline, GatherTimeline(channel_, hosts_, trace_.Take(), StepDeadline()));
    if (channel_.rank() == 0) {
      const std::string path = RunDirectory(job_.run_directory).trace();
      const Status written = ReplaceFile(PosixStorage(), path, timeline.ToJson() + "\n");
      ReportText(written.ok() ? "note" : "warning", written.ok() ? Cat("timeline of steps ", traced_.first, " to ", traced_.second, ": ",
                                                                       path, "; dtrain why says what it means")
                                                                 : Message(written));
    }
    clock_->Lap(Phase::kOther);
    return OkStatus();
  }

  Status ComputeLeaves(const Assignment& assignment, StepInput* input) {
    const int64_t count = assignment.leaves.count;
    const LeafOrder order = plan_.reproducible ? LeafOrder::kTree : LeafOrder::kSequence;
    flat_->StartStep();
    collector_->StartStep(count, order);
    // The model's making and the first steps, which hold all gradients at once, leave holes in the heap; without gradients in it, they
    // go back to the kernel once instead of staying for the whole run.
    if (step_ > first_step_ && step_ <= first_step_ + 3) malloc_trim(0);
    buffer_sum_->Start(count, order);
    LeafScalarSum loss_sum, weight_sum;
    loss_sum.Start();
    weight_sum.Start();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t leaf = assignment.leaves.first + i;
      clock_->Lap(Phase::kForwardBackward);
      const auto batch = loader_->Next(StepDeadline());
      if (!batch.ok()) return WithExitCode(Annotate(batch.status(), Cat("read the data of step ", step_)), ExitCode::kSetUp);
      clock_->Lap(Phase::kData);
      flat_->StartLeaf();
      SeedTorch(DeriveSeed(plan_.seed, RngPurpose::kLeaf, static_cast<uint64_t>(leaf), static_cast<uint64_t>(step_)));
      collector_->StartLeaf();
      const LossSum loss = session_->loss.Sum(session_->model->forward(InputsOf(**batch)), TargetsOf(**batch));
      loss.sum.backward();
      RETURN_IF_ERROR(WithExitCode(Annotate(collector_->FinishLeaf(), Cat("step ", step_)), ExitCode::kConfiguration));
      buffer_sum_->StartLeaf();
      buffer_sum_->Add({0, static_cast<int64_t>(flat_->leaf_buffers().size())}, flat_->leaf_buffers());
      const double leaf_loss = loss.sum.item<double>();
      input->finite = input->finite && std::isfinite(leaf_loss);
      if (plan_.reproducible) {
        loss_sum.Add(leaf_loss);
        weight_sum.Add(loss.weight);
      } else {
        input->loss_sum += leaf_loss;
        input->weight += loss.weight;
      }
    }
    if (plan_.reproducible) {
      input->loss_sum = loss_sum.total();
      input->weight = weight_sum.total();
    }
    input->touched = collector_->touched();
    input->gradients_of = collector_->gradients_of();
    clock_->Lap(Phase::kForwardBackward);
    return OkStatus();
  }

  // Of all ranks: a tensor that only some of them need in a step is in use.
  Status CheckUnused(const StepReport& report) const {
    if (report.untouched.empty() || config_.String("strategy.unused", "error") != "error") return OkStatus();
    std::vector<std::string> unused;
    for (const int32_t entry : report.untouched) unused.push_back(flat_->layout().entries[entry].info.name);
    return WithExitCode(
        WithHint(FailedPrecondition("step ", step_, ": ", unused.size(), unused.size() == 1 ? " parameter" : " parameters",
                                    " got no gradient: ", Join(unused, ", ")),
                 "the model does not use it in forward; freeze it (requires_grad false), or set strategy.unused to skip or zeros"),
        ExitCode::kConfiguration);
  }

  // Why the exchange failed: a peer may have felt the end of a rank before the coordinator told its cause.
  Status CauseOf(const Status& status) const {
    if (status.code() != StatusCode::kUnavailable) return status;
    const Deadline patience = Deadline::In(kCausePatience);
    while (channel_.Health().ok() && !patience.Passed()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return channel_.Health().ok() ? status : channel_.Health();
  }

  // A step whose loss or gradient is not finite was not applied. `again`: step_ was set back and the loop goes on there.
  Status NotFinite(const StepReport& report, bool* again) {
    const std::string what = Cat("step ", step_, ": loss ", report.weight > 0 ? report.loss_sum / report.weight : report.loss_sum,
                                 " or a gradient is not finite (learning rate ", learning_rate_, ")");
    switch (plan_.exchange.nan_policy) {
      case NanPolicy::kStop:
        return WithExitCode(
            WithHint(Aborted("train: ", what), "lower optim.lr, clip with optim.clip_norm, or set train.nan_policy to skip or roll_back"),
            ExitCode::kDiverged);
      case NanPolicy::kSkip:
        if (++skips_in_a_row_ >= kSkipsInARowMax) {
          return WithExitCode(Aborted("train: ", what, ", the ", kSkipsInARowMax, "th such step in a row"), ExitCode::kDiverged);
        }
        ReportText("warning", Cat(what, "; skipped"));
        return OkStatus();
      case NanPolicy::kRollBack:
        break;
    }
    if (++roll_backs_ > kRollBacksMax) {
      return WithExitCode(WithHint(Aborted("train: ", what, ", after ", kRollBacksMax, " roll backs"), "lower optim.lr"),
                          ExitCode::kDiverged);
    }
    if (writer_) RETURN_IF_ERROR(SaveFailure(writer_->Drain(Deadline::In(kSaveLimit))));
    const double factor = factor_;
    ASSIGN_OR_RETURN(std::optional<Checkpoint> checkpoint, RollBackTarget());
    if (!checkpoint) {
      return WithExitCode(
          WithHint(Aborted("train: ", what, ", and there is no checkpoint to roll back to"), "set checkpoint.every to save more often"),
          ExitCode::kDiverged);
    }
    ExchangeState state;
    const double before_s = elapsed_before_s_;  // the time that was lost has passed all the same
    RETURN_IF_ERROR(TakeCheckpoint(std::move(*checkpoint), &state));
    elapsed_before_s_ = before_s;
    state.factor = factor_ = factor / 2;
    RETURN_IF_ERROR(exchange_->Load(state));
    flat_->TakeBuffers();
    ReportText("warning", Cat(what, "; rolled back to step ", state.step, " with the learning rate halved"));
    step_ = state.step;
    *again = true;
    return OkStatus();
  }

  StatusOr<std::optional<Checkpoint>> RollBackTarget() {
    const bool fresh = std::exchange(job_.fresh, false);
    auto checkpoint = ResumeFrom();
    job_.fresh = fresh;
    return checkpoint;
  }

  void TakeProgress(const StepReport& report) {
    interval_loss_ += report.loss_sum;
    interval_weight_ += report.weight;
    if (channel_.rank() != 0) return;
    const double now_s = ElapsedOfTraining();
    if (now_s - reported_s_ < kProgressSeconds && !(plan_.total_steps && step_ + 1 == *plan_.total_steps)) return;
    Value event = Value::Map();
    event.Set("event", "progress");
    event.Set("step", step_ + 1);
    event.Set("epoch", plan_.Epochs(step_ + 1));
    event.Set("samples", samples_);
    const double busy_s = now_s - reported_s_ - (ExcludedSeconds() - reported_excluded_s_);
    event.Set("samples_per_s", busy_s > 0 ? static_cast<double>(samples_ - reported_samples_) / busy_s : 0.0);
    event.Set("loss", interval_weight_ > 0 ? interval_loss_ / interval_weight_ : std::nan(""));
    event.Set("learning_rate", learning_rate_);
    event.Set("gradient_norm", report.gradient_norm);
    event.Set("phases", PhasesValue());
    event.Set("elapsed_s", now_s);
    channel_.Report(event);
    reported_s_ = now_s;
    reported_excluded_s_ = ExcludedSeconds();
    reported_samples_ = samples_;
    interval_loss_ = interval_weight_ = 0;
  }

  double ElapsedOfTraining() const { return Seconds(SystemClock().Now() - begun_); }
  double ExcludedSeconds() const { return clock_->seconds(Phase::kEvaluate) + clock_->seconds(Phase::kSave); }

  Value PhasesValue() const {
    Value phases = Value::Map();
    for (size_t i = 0; i < kPhaseNames.size(); ++i) phases.Set(kPhaseNames[i], clock_->seconds(static_cast<Phase>(i)));
    return phases;
  }

  void ReportText(const char* kind, const std::string& text) {
    if (channel_.rank() != 0) return;
    Value event = Value::Map();
    event.Set("event", kind);
    event.Set("text", text);
    channel_.Report(event);
  }

  // ---- evaluation and checkpoints

  Status EvaluateNow() {
    clock_->Lap(Phase::kOther);
    const double before_s = clock_->seconds(Phase::kEvaluate);
    const int64_t batches = BatchesOf(*session_->data.valid, plan_.evaluate_batch);
    const int64_t first = batches * channel_.rank() / channel_.world_size(), end = batches * (channel_.rank() + 1) / channel_.world_size();
    ASSIGN_OR_RETURN(const EvaluationTotals mine, Evaluate(*session_->model, session_->loss, session_->data.valid, plan_.evaluate_batch,
                                                           first, end, [this] { return channel_.Health(); }));
    ASSIGN_OR_RETURN(const auto parts, channel_.AllGather(Cat("evaluate ", step_), mine.Encode(), StepDeadline()));
    EvaluationTotals totals;
    for (const std::string& part : parts) {
      ASSIGN_OR_RETURN(const EvaluationTotals of_rank, EvaluationTotals::Decode(part));
      totals.Add(of_rank);
    }
    metrics_ = totals.Metrics("valid", session_->loss.type() != LossType::kMse);
    evaluated_step_ = step_;
    clock_->Lap(Phase::kEvaluate);
    if (channel_.rank() != 0) return OkStatus();
    Value event = Value::Map();
    event.Set("event", "evaluation");
    event.Set("step", step_);
    event.Set("epoch", plan_.Epochs(step_));
    event.Set("metrics", metrics_);
    event.Set("seconds", clock_->seconds(Phase::kEvaluate) - before_s);
    channel_.Report(event);
    return OkStatus();
  }

  Value StateValue(const ExchangeState& exchanged) const {
    Value state = Value::Map();
    const Cursor cursor = sampler_->CursorAt(step_);
    state.Set("updates", exchanged.updates);
    state.Set("epoch", cursor.epoch);
    state.Set("cursor.step_in_epoch", cursor.step_in_epoch);
    state.Set("cursor.samples", cursor.samples);
    state.Set("seed", config_.Int("run.seed", 0));
    state.Set("factor", exchanged.factor);
    state.Set("elapsed_s", ElapsedSeconds());
    state.Set("early_stop", early_stop_.Save());
    state.Set("build", BuildOf(threads_));
    state.Set("world_size", channel_.world_size());
    state.Set("config_hash", job_.config_hash);
    state.Set("config", config_);
    state.Set("data_fingerprint", session_->data.train->fingerprint());
    if (evaluated_step_ == step_) state.Set("metrics", metrics_);
    return state;
  }

  static Status SaveFailure(const Status& status) {
    if (status.ok()) return status;
    return WithExitCode(Annotate(status, "save a checkpoint"), ExitCodeOf(status, ExitCode::kSetUp));
  }

  // What the exchange holds and what only the model does: frozen parameters, integer buffers.
  StatusOr<ExchangeState> WholeState() const {
    auto state = exchange_->Snapshot();
    if (!state.ok()) {
      return WithExitCode(state.status(), state.status().code() == StatusCode::kDataLoss ? ExitCode::kDiverged : ExitCode::kSetUp);
    }
    for (HostTensor& tensor : flat_->OtherTensors()) state->model.push_back(std::move(tensor));
    return state;
  }

  // Saves the state before step_, unless that was done already.
  Status Save() {
    if (saved_step_ == step_) return OkStatus();
    saved_step_ = step_;
    saved_at_s_ = ElapsedSeconds();
    if (channel_.rank() != 0) return OkStatus();
    clock_->Lap(Phase::kOther);
    const TimePoint before = SystemClock().Now();
    ASSIGN_OR_RETURN(ExchangeState whole, WholeState());
    Checkpoint checkpoint{.step = step_, .state = StateValue(whole)};
    checkpoint.model = std::move(whole.model);
    checkpoint.optimizer = std::move(whole.optimizer);
    for (const auto& [alias, name] : flat_->aliases()) checkpoint.model_metadata["alias." + alias] = name;
    double bytes = 0;
    for (const auto* tensors : {&checkpoint.model, &checkpoint.optimizer}) {
      for (const HostTensor& tensor : *tensors) bytes += static_cast<double>(tensor.bytes.size());
    }
    RETURN_IF_ERROR(SaveFailure(writer_->Submit(std::move(checkpoint), Deadline::In(kSaveLimit))));
    clock_->Lap(Phase::kSave);
    Value event = Value::Map();
    event.Set("event", "checkpoint");
    event.Set("step", step_);
    event.Set("path", Cat(job_.run_directory, "/checkpoints/", CheckpointName(step_)));
    event.Set("bytes", static_cast<int64_t>(bytes));
    event.Set("pause_s", Seconds(SystemClock().Now() - before));
    channel_.Report(event);
    return OkStatus();
  }

  // ---- the end

  Status Stopped() {
    RETURN_IF_ERROR(DrainAndReport());
    return WithExitCode(WithHint(Cancelled("stopped before step ", step_, "; the state is saved"), "the same command goes on from here"),
                        ExitCode::kStopped);
  }

  Status Finish() {
    if (trace_.on()) RETURN_IF_ERROR(WriteTimeline());  // the run was shorter than what it was to trace
    if (plan_.evaluate && evaluated_step_ != step_) RETURN_IF_ERROR(EvaluateNow());
    RETURN_IF_ERROR(Save());
    return DrainAndReport();
  }

  Status DrainAndReport() {
    if (channel_.rank() != 0) return OkStatus();
    clock_->Lap(Phase::kOther);
    RETURN_IF_ERROR(SaveFailure(writer_->Drain(Deadline::In(kSaveLimit))));
    clock_->Lap(Phase::kSave);
    ASSIGN_OR_RETURN(const ExchangeState state, WholeState());
    ASSIGN_OR_RETURN(const auto checkpoints, store_.List());
    const auto best = BestFirst(checkpoints, RetentionOf(config_));
    Value event = Value::Map();
    event.Set("event", "end");
    event.Set("steps", step_);
    event.Set("updates", state.updates);
    event.Set("samples", samples_);
    event.Set("world_size", channel_.world_size());
    const double total_s = clock_->total();
    event.Set("train_s", total_s);
    const int64_t warm_steps = std::min<int64_t>(kWarmUpSteps, step_ - first_step_);
    const bool past_warm_up = step_ - first_step_ > kWarmUpSteps;
    const double measured_s = total_s - ExcludedSeconds() - (past_warm_up ? warm_s_ : 0);
    const int64_t measured = samples_ - (past_warm_up ? warm_steps * plan_.batch.global : 0);
    event.Set("samples_per_s", measured_s > 0 ? static_cast<double>(measured) / measured_s : 0.0);
    event.Set("phases", PhasesValue());
    event.Set("metrics", metrics_);
    event.Set("parameter_hash", ParameterHash(state.model));
    event.Set("checkpoints.last", checkpoints.empty() ? Value() : Value(checkpoints.back().path));
    event.Set("checkpoints.best", best.empty() ? Value() : Value(best.front().path));
    event.Set("save.pause_s", writer_->statistics().pause_s);
    event.Set("save.write_s", writer_->statistics().write_s);
    channel_.Report(event);
    return OkStatus();
  }

  TrainingJob job_;
  const Value& config_;
  JobChannel& channel_;
  CheckpointStore store_;

  HostGroup hosts_;
  int threads_ = 1;
  std::optional<Session> session_;
  std::optional<FlatModel> flat_;
  JobPlan plan_;
  Trace trace_;
  std::pair<Step, Step> traced_ = {-1, -1};  // first and last step
  std::unique_ptr<GradientExchange> exchange_;
  std::string strategy_;  // in words
  std::optional<Sampler> sampler_;
  std::unique_ptr<Loader> loader_;
  std::optional<CheckpointWriter> writer_;  // on rank 0
  EarlyStop early_stop_;
  std::optional<GradientCollector> collector_;
  std::optional<LeafAccumulator> buffer_sum_;
  Status offered_;  // what the exchange said to buckets that were offered during backward

  Step first_step_ = 0, step_ = 0;
  std::optional<Step> resumed_from_;
  Step saved_step_ = -1, evaluated_step_ = -1;
  int64_t samples_ = 0, saves_asked_ = 0, saves_done_ = 0, skips_in_a_row_ = 0;
  int roll_backs_ = 0;
  double factor_ = 1, learning_rate_ = 0;
  Value metrics_ = Value::Map();

  std::optional<PhaseClock> clock_;
  TimePoint begun_;
  double elapsed_before_s_ = 0, saved_at_s_ = 0, warm_s_ = 0, warm_exchange_s_ = 0, warm_compute_s_ = 0;
  double reported_s_ = 0, reported_excluded_s_ = 0, interval_loss_ = 0, interval_weight_ = 0;
  int64_t reported_samples_ = 0;
};

}  // namespace

Status RunTraining(const TrainingJob& job, JobChannel& channel) { return Training(job, channel).Run(); }

}  // namespace dtrain
