// Where a run's time goes. Every moment belongs to exactly one phase, so the phases add up to the whole.
#pragma once
#include <array>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/trace.h"

namespace dtrain {

enum class Phase { kData, kForwardBackward, kExchange, kOptimizer, kEvaluate, kSave, kOther };
inline constexpr std::array<std::string_view, 7> kPhaseNames = {"data", "forward_backward", "exchange", "optimizer", "evaluate", "save",
                                                                "other"};

class PhaseClock {
 public:
  explicit PhaseClock(const Clock& clock = SystemClock()) : clock_(clock), start_(clock.Now()), last_(start_) {}

  // The time since the last call was spent in `phase`; the first call counts from construction.
  void Lap(Phase phase) {
    const TimePoint now = clock_.Now();
    seconds_[static_cast<size_t>(phase)] += Seconds(now - last_);
    if (trace_ != nullptr && trace_->on()) {
      trace_->Add({std::string(kPhaseNames[static_cast<size_t>(phase)]), TraceThread::kCompute, last_, now, step_});
    }
    last_ = now;
  }
  // Laps become spans of `trace`, which outlives the clock.
  void TraceTo(Trace* trace) { trace_ = trace; }
  void SetStep(Step step) { step_ = step; }
  // Moves `seconds` that a lap counted under `from` to `to`.
  void Move(Phase from, Phase to, double seconds) {
    seconds_[static_cast<size_t>(from)] -= seconds;
    seconds_[static_cast<size_t>(to)] += seconds;
  }
  double seconds(Phase phase) const { return seconds_[static_cast<size_t>(phase)]; }
  double total() const { return Seconds(last_ - start_); }  // up to the last lap

 private:
  const Clock& clock_;
  TimePoint start_, last_;
  Trace* trace_ = nullptr;
  Step step_ = 0;
  std::array<double, kPhaseNames.size()> seconds_ = {};
};

}  // namespace dtrain
