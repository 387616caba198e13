#include "cluster/thread_budget.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

namespace dtrain {
namespace {

// Cores that the nearest group with a limit grants; `otherwise` if none does. A group's own folder is not visible under
// its host's name inside a container, where /sys/fs/cgroup is the group itself.
int GroupLimit(int otherwise) {
  std::string group;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::/")) group = line.substr(3);
  }
  int limit = otherwise;
  for (;;) {
    std::ifstream file("/sys/fs/cgroup" + group + "/cpu.max");
    std::string quota;
    double period = 0;
    if (file >> quota >> period && quota != "max" && period > 0) {
      const double cores = std::strtod(quota.c_str(), nullptr) / period;
      if (cores > 0) limit = std::min(limit, std::max(1, static_cast<int>(std::ceil(std::min(cores, 1e6)))));
    }
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return limit;
    group.resize(slash);
  }
}

}  // namespace

int ThreadsPerRank(int cores, int ranks, bool reproducible) { return reproducible ? 1 : std::max(1, cores / std::max(1, ranks)); }

int UsableCores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int cores = 0;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) cores = CPU_COUNT(&mask);
  if (cores < 1) cores = std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
  return GroupLimit(cores);
}

}  // namespace dtrain
