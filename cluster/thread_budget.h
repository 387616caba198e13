// How many threads a rank computes with, so that the ranks of a host do not fight for its cores.
#pragma once

namespace dtrain {

// 1 if reproducible (another number of threads gives other bits), else cores / ranks, at least 1.
int ThreadsPerRank(int cores, int ranks, bool reproducible);

// The cores this process may use: its affinity mask, or less where a control group limits it (cgroup v2's cpu.max, rounded
// up). At least 1.
int UsableCores();

}  // namespace dtrain
