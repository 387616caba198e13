// Which ranks of a job share a host; and memory for ranks that do, although nobody started them together.
#pragma once
#include <string>
#include <vector>

#include "trainer/job_channel.h"

namespace dtrain {

struct HostGroup {
  std::vector<std::string> host_of;  // of each rank: its name, for people
  int local_rank = 0;                // of this rank among those of its host
  int local_size = 1;
  int cores = 1;  // that the ranks of this host may use together
  bool one_host() const { return local_size == static_cast<int>(host_of.size()); }
};

// Collective. Ranks share a host if they see the same kernel (its boot id) and the same processes (their pid namespace).
StatusOr<HostGroup> GatherHosts(JobChannel& channel, Deadline deadline);

// Collective, for ranks of one host: a segment that rank 0 makes and the others open through /proc. Its descriptor, the caller's to
// close; -1 if a rank may not open it (another user, a hardened kernel): then all get -1, and `why_not` says which.
StatusOr<int> ShareSegment(JobChannel& channel, std::string* why_not, Deadline deadline);

}  // namespace dtrain
