// How long something lasts or how often it happens, in the unit that the user thinks in: "10ep", "5000st", "2h".
// Pure functions; safe to call from any thread.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace dtrain {

struct TrainingSpan {
  enum class Unit { kSteps, kEpochs, kSeconds };

  double amount = 0;  // whole for steps
  Unit unit = Unit::kSteps;

  bool is_time() const { return unit == Unit::kSeconds; }
  bool operator==(const TrainingSpan&) const = default;
};

// A number and its unit in one word: ep (epochs), st (steps), h, min, s, ms. "90s" and "1.5min" are equal.
// kInvalidArgument says what was found and what was expected in the words of a configuration error ("found '10m',
// expected ...; did you mean 10min?"): no unit, an unknown one, part of a step, less than nothing, more than can be meant
// (2^53 steps, 1e9 epochs or seconds).
StatusOr<TrainingSpan> ParseTrainingSpan(std::string_view text);

// The shortest word that reads back equal: 7200 seconds are "2h".
std::string FormatTrainingSpan(const TrainingSpan& span);

// The span as a number of steps: epochs are rounded to the nearest step, at least one if the span is not zero.
// A span in seconds is no number of steps; asking for it is a mistake of ours. steps_per_epoch > 0.
int64_t Steps(const TrainingSpan& span, int64_t steps_per_epoch);

}  // namespace dtrain
