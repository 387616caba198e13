// The learning rate as a pure function of progress: nothing to save, nothing that two ranks could disagree on.
// Cosine after Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, without restarts.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "base/view.h"

namespace dtrain {

enum class ScheduleType { kConstant, kStep, kCosine };

// "constant", "step", "cosine".
StatusOr<ScheduleType> ParseScheduleType(std::string_view name);

struct ScheduleOptions {
  ScheduleType type = ScheduleType::kConstant;
  int64_t warmup_steps = 0;     // the rate rises linearly; step warmup_steps - 1 is the first with all of it
  int64_t step_size_steps = 1;  // kStep: how often the rate drops; below one step counts as one
  int64_t total_steps = 0;      // kCosine: of the run, warm-up included
  double gamma = 0.1;           // kStep: what it is multiplied by
  double min_factor = 0;        // kCosine: fraction of the rate from step total_steps on
};

// The learning rate of `step` (from 0), where t = step - warmup_steps:
//   step < warmup_steps: base (step + 1) / warmup_steps;   constant: base;   step: base gamma^floor(t / step_size_steps)
//   cosine: base (min + (1 - min) (1 + cos(pi t / (total_steps - warmup_steps))) / 2)
// times `factor`, which a run may change by decision (1 until then).
double LearningRate(const ScheduleOptions& options, double base, Step step, double factor);

}  // namespace dtrain
