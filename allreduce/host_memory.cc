#include "allreduce/host_memory.h"

#include <malloc.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <optional>

namespace dtrain {
namespace {

// The number that follows `key` at the begin of a line, or, without a key, the first one; nothing for "max" or no file.
std::optional<int64_t> NumberIn(const std::string& path, const std::string& key = "") {
  std::ifstream file(path);
  std::string word;
  while (file && !key.empty() && word != key) file >> word;
  int64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

struct CgroupFiles {
  const char *limit, *used, *statistics, *reclaimable;
};
constexpr CgroupFiles kCgroups[] = {
    {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"},
    {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.stat",
     "total_inactive_file"},
};

}  // namespace

int64_t AvailableMemoryBytes(const std::string& root) {
  int64_t available = INT64_MAX;
  if (const auto kilobytes = NumberIn(root + "/proc/meminfo", "MemAvailable:")) available = *kilobytes * 1024;
  for (const CgroupFiles& cgroup : kCgroups) {
    const auto limit = NumberIn(root + cgroup.limit), used = NumberIn(root + cgroup.used);
    if (!limit || !used) continue;
    const int64_t reclaimable = NumberIn(root + cgroup.statistics, cgroup.reclaimable).value_or(0);
    available = std::min(available, std::max<int64_t>(*limit - *used + std::min(reclaimable, *used), 0));
  }
  return available;
}

void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 4 << 20);
}

}  // namespace dtrain
