#include "trainer/job_plan.h"

#include <algorithm>
#include <cmath>

#include "cluster/thread_budget.h"

namespace dtrain {
namespace {

// A checked configuration holds only spans that parse.
StatusOr<Interval> ToInterval(const std::string& text, int64_t steps_per_epoch) {
  ASSIGN_OR_RETURN(const TrainingSpan span, ParseTrainingSpan(text));
  if (span.is_time()) return Interval{.seconds = span.amount};
  return Interval{.steps = std::max<int64_t>(1, Steps(span, steps_per_epoch))};
}

// null or "never": nothing; one span or a list of spans.
StatusOr<std::vector<Interval>> ToIntervals(const Value& value, int64_t steps_per_epoch) {
  std::vector<Interval> intervals;
  const auto add = [&](const Value& entry) -> Status {
    const std::string text = entry.String("", "never");
    if (text == "never") return OkStatus();
    ASSIGN_OR_RETURN(const Interval interval, ToInterval(text, steps_per_epoch));
    intervals.push_back(interval);
    return OkStatus();
  };
  if (const auto* list = value.if_list()) {
    for (const Value& entry : *list) RETURN_IF_ERROR(add(entry));
  } else {
    RETURN_IF_ERROR(add(value));
  }
  return intervals;
}

StatusOr<OptimizerOptions> ToOptimizer(const Value& optim) {
  OptimizerOptions options;
  ASSIGN_OR_RETURN(options.type, ParseOptimizerType(optim.String("type", "sgd")));
  options.momentum = optim.Double("momentum", options.momentum);
  options.dampening = optim.Double("dampening", options.dampening);
  options.nesterov = optim.Bool("nesterov", options.nesterov);
  options.beta1 = optim.Double("beta1", options.beta1);
  options.beta2 = optim.Double("beta2", options.beta2);
  options.eps = optim.Double("eps", options.type == OptimizerType::kAdagrad ? 1e-10 : options.eps);
  options.alpha = optim.Double("alpha", options.alpha);
  options.centered = optim.Bool("centered", options.centered);
  options.amsgrad = optim.Bool("amsgrad", options.amsgrad);
  options.lr_decay = optim.Double("lr_decay", options.lr_decay);
  options.initial_accumulator = optim.Double("initial_accumulator", options.initial_accumulator);
  return options;
}

// A span of the schedule in steps; it cannot be a time, since the schedule is a function of progress.
StatusOr<int64_t> ScheduleSteps(const Value& config, const char* key, int64_t steps_per_epoch) {
  const std::string text = config.String(key, "0st");
  ASSIGN_OR_RETURN(const TrainingSpan span, ParseTrainingSpan(text));
  if (span.is_time()) {
    return WithHint(
        InvalidArgument(key, ": found '", text, "', expected steps or epochs: a schedule is a function of progress, not of the clock"),
        "write it as e.g. 500st or 1ep");
  }
  return Steps(span, steps_per_epoch);
}

StatusOr<ScheduleOptions> ToSchedule(const Value& config, const JobPlan& plan) {
  ScheduleOptions options;
  const std::string type = config.String("optim.schedule.type", "constant");
  ASSIGN_OR_RETURN(options.type, ParseScheduleType(type));
  ASSIGN_OR_RETURN(options.warmup_steps, ScheduleSteps(config, "optim.schedule.warmup", plan.steps_per_epoch));
  ASSIGN_OR_RETURN(options.step_size_steps, ScheduleSteps(config, "optim.schedule.size", plan.steps_per_epoch));
  options.gamma = config.Double("optim.schedule.gamma", options.gamma);
  options.min_factor = config.Double("optim.schedule.min_factor", options.min_factor);
  if (options.type == ScheduleType::kCosine && !plan.total_steps) {
    return WithHint(InvalidArgument("optim.schedule.type: cosine needs a number of steps; train.duration is a time"),
                    "give train.duration in epochs (10ep) or steps (5000st), or use the constant schedule");
  }
  options.total_steps = plan.total_steps.value_or(0);
  return options;
}

}  // namespace

bool JobPlan::EvaluateAfter(Step done_steps) const {
  return evaluate && (evaluate->Due(done_steps) || (total_steps && done_steps == *total_steps));
}

bool JobPlan::SaveAfter(Step done_steps) const {
  return std::any_of(save.begin(), save.end(), [&](const Interval& interval) { return interval.Due(done_steps); });
}

SamplerOptions PlannedSampler(const Value& config, const JobPlan& plan) {
  const std::string kind = config.String("data.sampler", "shuffled");
  return {.seed = plan.seed,
          .dataset_size = plan.train_samples,
          .kind = kind == "sequential"    ? SamplerKind::kSequential
                  : kind == "independent" ? SamplerKind::kIndependent
                                          : SamplerKind::kShuffled,
          .global_batch = plan.batch.global,
          .leaves = plan.batch.leaves,
          .remainder = config.String("data.remainder", "pad") == "drop" ? Remainder::kDrop : Remainder::kPad};
}

StatusOr<JobPlan> MakeJobPlan(const Value& config, int ranks, int64_t train_samples) {
  JobPlan plan;
  plan.ranks = ranks;
  plan.reproducible = config.Bool("run.reproducible", false);
  plan.seed = static_cast<uint64_t>(config.Int("run.seed", 0));
  plan.train_samples = train_samples;
  ASSIGN_OR_RETURN(plan.batch, PlanBatch(BatchRequestOf(config), ranks));
  ASSIGN_OR_RETURN(const Sampler sampler, Sampler::Make(PlannedSampler(config, plan)));
  plan.steps_per_epoch = sampler.steps_per_epoch();
  ASSIGN_OR_RETURN(const TrainingSpan duration, ParseTrainingSpan(config.String("train.duration", "10ep")));
  if (duration.is_time()) {
    plan.seconds_max = duration.amount;
  } else {
    plan.total_steps = Steps(duration, plan.steps_per_epoch);
  }
  for (const auto& [key, interval] :
       {std::pair("eval.every", &plan.evaluate), std::pair("strategy.check_replicas", &plan.check_replicas)}) {
    ASSIGN_OR_RETURN(const auto given, ToIntervals(config.At(key), plan.steps_per_epoch));
    if (given.empty()) continue;
    *interval = given.front();
    if ((*interval)->seconds) {
      return WithHint(InvalidArgument(key, ": found a time, expected steps or epochs: all ranks do it after the same step"),
                      "write it as e.g. 500st or 1ep, or never");
    }
  }
  ASSIGN_OR_RETURN(plan.save, ToIntervals(config.At("checkpoint.every"), plan.steps_per_epoch));
  plan.evaluate_batch = config.Int("eval.batch", plan.evaluate_batch);

  if (const auto steps = config.Ints("log.trace.steps"); !config.At("log.trace").is_null() && steps.size() == 2) {
    plan.trace = {steps[0], steps[1]};
  }

  ExchangeOptions& exchange = plan.exchange;
  if (config.String("strategy.unused", "error") == "skip" && config.String("optim.type", "sgd").starts_with("adam")) {
    return WithHint(InvalidArgument("strategy.unused: found skip with optim.type ", config.String("optim.type", ""),
                                    ", whose bias correction counts the updates of all tensors together"),
                    "set strategy.unused to zeros, or take another optimizer");
  }
  exchange.skip_untouched = config.String("strategy.unused", "error") == "skip";
  const std::string buffers = config.String("strategy.buffers", "average");
  exchange.buffer_rule = buffers == "first" ? BufferRule::kFirst : buffers == "local" ? BufferRule::kLocal : BufferRule::kAverage;
  if (plan.reproducible && exchange.buffer_rule != BufferRule::kAverage) {
    return WithHint(InvalidArgument("strategy.buffers: found ", buffers,
                                    " with run.reproducible, expected average: buffers of one rank depend "
                                    "on the number of ranks"),
                    "leave it out, or set run.reproducible=false");
  }
  exchange.buckets.bucket_bytes_max = config.Int("strategy.bucket", exchange.buckets.bucket_bytes_max);
  exchange.buckets.first_bucket_bytes_max = std::min(exchange.buckets.bucket_bytes_max, exchange.buckets.first_bucket_bytes_max);
  exchange.leaves = plan.batch.leaves;
  exchange.reproducible = plan.reproducible;
  ASSIGN_OR_RETURN(exchange.optimizer, ToOptimizer(config.At("optim")));
  exchange.groups = {GroupOptions{.weight_decay = config.Double("optim.weight_decay", 0)}};
  exchange.clip_norm = config.Double("optim.clip_norm", 0);
  const std::string policy = config.String("train.nan_policy", "stop");
  exchange.nan_policy = policy == "skip" ? NanPolicy::kSkip : policy == "roll_back" ? NanPolicy::kRollBack : NanPolicy::kStop;
  ASSIGN_OR_RETURN(const ScheduleOptions schedule, ToSchedule(config, plan));
  const double base = config.Double("optim.lr", 0.01);
  exchange.learning_rate = [schedule, base](Step step, double factor) { return LearningRate(schedule, base, step, factor); };
  return plan;
}

int ConfiguredThreads(const Value& config, int cores, int ranks) {
  if (config.At("train.threads").if_int() != nullptr) return static_cast<int>(config.Int("train.threads", 1));
  return ThreadsPerRank(cores, ranks, config.Bool("run.reproducible", false));
}

RetentionPolicy RetentionOf(const Value& config) {
  RetentionPolicy policy{.keep_last = static_cast<int>(config.Int("checkpoint.keep_last", 2))};
  if (!config.At("checkpoint.keep_best").is_null()) {
    policy.keep_best = static_cast<int>(config.Int("checkpoint.keep_best.count", 1));
    policy.metric = config.String("checkpoint.keep_best.metric", "valid_accuracy");
    policy.metric_is_better_when_larger = config.String("checkpoint.keep_best.mode", "max") == "max";
  }
  return policy;
}

EarlyStop EarlyStopOf(const Value& config) {
  EarlyStop rule;
  if (config.At("train.early_stop").is_null()) return rule;
  rule.metric = config.String("train.early_stop.metric", "valid_accuracy");
  rule.larger_is_better = config.String("train.early_stop.mode", "max") == "max";
  rule.patience = config.Int("train.early_stop.patience", 3);
  return rule;
}

std::string OptimizerText(const Value& config) {
  std::string text = Cat(config.String("optim.type", "sgd"), ", learning rate ", config.Double("optim.lr", 0));
  if (const double momentum = config.Double("optim.momentum", 0); momentum > 0) text += Cat(", momentum ", momentum);
  if (const std::string schedule = config.String("optim.schedule.type", "constant"); schedule != "constant")
    text += Cat(", ", schedule, " schedule");
  if (const std::string warmup = config.String("optim.schedule.warmup", "0st"); warmup != "0st") text += Cat(", warm-up ", warmup);
  if (const double norm = config.Double("optim.clip_norm", 0); norm > 0) text += Cat(", clipped at norm ", norm);
  return text;
}

}  // namespace dtrain
