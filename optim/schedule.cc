#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dtrain {
namespace {

double ScheduleFactor(const ScheduleOptions& options, Step step) {
  if (step < options.warmup_steps) return static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  const Step since = step - std::max<int64_t>(options.warmup_steps, 0);
  switch (options.type) {
    case ScheduleType::kConstant:
      return 1;
    case ScheduleType::kStep: {
      const int64_t drops = since / std::max<int64_t>(options.step_size_steps, 1);
      return std::pow(options.gamma, static_cast<double>(drops));
    }
    case ScheduleType::kCosine: {
      const int64_t length = options.total_steps - options.warmup_steps;
      if (since >= length) return options.min_factor;
      const double angle = std::numbers::pi * static_cast<double>(since) / static_cast<double>(length);
      return options.min_factor + (1 - options.min_factor) * (1 + std::cos(angle)) / 2;
    }
  }
  return 1;
}

}  // namespace

StatusOr<ScheduleType> ParseScheduleType(std::string_view name) {
  if (name == "constant") return ScheduleType::kConstant;
  if (name == "step") return ScheduleType::kStep;
  if (name == "cosine") return ScheduleType::kCosine;
  return InvalidArgument("read schedule type: found '", name, "', expected constant, step or cosine");
}

double LearningRate(const ScheduleOptions& options, double base, Step step, double factor) {
  return base * ScheduleFactor(options, step) * factor;
}

}  // namespace dtrain
