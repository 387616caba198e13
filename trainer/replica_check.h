// Ranks that hold parameters of their own must hold the same ones; a rank whose memory, compiler or link went wrong is found by
// comparing them from time to time.
#pragma once
#include <span>

#include "base/flat_layout.h"
#include "trainer/host_group.h"
#include "trainer/job_channel.h"

namespace dtrain {

// Collective. kDataLoss on every rank names the ranks that differ from rank 0 and the first tensor in which they do.
// `parameters` has layout.elements. Costs a CRC32C of the parameters and a few bytes on the control plane while all is well.
Status CompareReplicas(JobChannel& channel, const HostGroup& hosts, const FlatLayout& layout, std::span<const float> parameters, Step step,
                       Deadline deadline);

}  // namespace dtrain
