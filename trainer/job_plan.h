// What a configuration means for a given number of ranks and samples: batches, steps, intervals, exchange options.
// Pure functions, the same result on every rank.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/value.h"
#include "datasets/sampler.h"
#include "optim/schedule.h"
#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/config/batch_equation.h"
#include "trainer/config/duration.h"
#include "trainer/evaluation.h"
#include "trainer/exchange.h"

namespace dtrain {

// Something that happens every so many steps, or every so many seconds of the coordinator's clock.
struct Interval {
  std::optional<int64_t> steps;
  std::optional<double> seconds;

  // True after `step` steps are done.
  bool Due(Step done_steps) const { return steps && done_steps > 0 && done_steps % *steps == 0; }
};

struct JobPlan {
  int ranks = 1;
  bool reproducible = false;
  uint64_t seed = 0;
  BatchPlan batch;
  int64_t train_samples = 0;
  int64_t steps_per_epoch = 0;
  std::optional<int64_t> total_steps;  // none: train.duration is a time
  std::optional<double> seconds_max;   // then this
  std::optional<Interval> evaluate;    // none: never
  std::optional<Interval> check_replicas;
  std::vector<Interval> save;  // empty: never, but at the end
  int64_t evaluate_batch = 256;
  std::optional<std::pair<Step, Step>> trace;  // first step of the timeline and the one after its last
  ExchangeOptions exchange;

  bool EvaluateAfter(Step done_steps) const;  // after the last step too, unless never
  bool SaveAfter(Step done_steps) const;
  double Epochs(Step done_steps) const { return static_cast<double>(done_steps) / static_cast<double>(steps_per_epoch); }
};

// kInvalidArgument (exit code kConfiguration) for what does not fit together; the message names the keys.
StatusOr<JobPlan> MakeJobPlan(const Value& config, int ranks, int64_t train_samples);

// Computing threads of each of the `ranks` ranks of a host: train.threads, or by its `cores` where it is auto.
int ConfiguredThreads(const Value& config, int cores, int ranks);
RetentionPolicy RetentionOf(const Value& config);
EarlyStop EarlyStopOf(const Value& config);
// "adamw, learning rate 0.001, cosine schedule, warm-up 1ep, clipped at norm 1"
std::string OptimizerText(const Value& config);

// The sampler of the plan over `samples` samples.
SamplerOptions PlannedSampler(const Value& config, const JobPlan& plan);

}  // namespace dtrain
