// The timeline of a few steps: what every rank did when, on one clock, as a Chrome trace (chrome://tracing, Perfetto).
// Format: "Trace Event Format", complete events ("ph": "X"), times in microseconds.
#pragma once
#include <vector>

#include "base/trace.h"
#include "base/value.h"
#include "trainer/host_group.h"
#include "trainer/job_channel.h"

namespace dtrain {

// Collective: every rank's spans; on rank 0 the whole trace, null elsewhere. Ranks of one host have one clock; between hosts clocks
// are compared by control-plane answers that leave for all ranks at once, so spans of two hosts may be off by a network
// latency.
StatusOr<Value> GatherTimeline(JobChannel& channel, const HostGroup& hosts, const std::vector<TraceSpan>& spans, Deadline deadline);

}  // namespace dtrain
