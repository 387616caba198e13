// Why a run is as fast as it is, in sentences: where the time went, who waited for whom, what each knob would gain at most.
// From what the run left: result.json, and trace.json where there is one. Pure functions.
#pragma once
#include <string>
#include <vector>

#include "base/value.h"

namespace dtrain {

// What a timeline (trainer/timeline.h) says about its steps; times in seconds, means over steps.
struct TimelineFacts {
  struct Rank {
    std::string name;   // "rank 1 on host-b"
    double step_s = 0;  // begin of a step to the begin of the next
    double data_s = 0, compute_s = 0, wait_s = 0, update_s = 0;
    double communicating_s = 0;  // its exchange thread was busy
    double hidden_s = 0;         // of that, while backward still ran
    int64_t last = 0;            // steps in which it was the last to finish its gradients
  };
  std::vector<Rank> ranks;
  int64_t steps = 0;
  double lateness_s = 0;  // mean over steps: last to finish its gradients after the first
};

// kDataLoss if `trace` is none of ours.
StatusOr<TimelineFacts> ReadTimeline(const Value& trace);

// Sentences, the most important first. `result` as in result.json; null where the run is not over.
std::vector<std::string> ExplainRun(const Value& result, const TimelineFacts* timeline);

}  // namespace dtrain
