// How much memory this process may still take. Memory of a shared segment cannot be swapped for an error message: where
// it runs out, the kernel kills whoever it finds. So it is asked before.
#pragma once
#include <cstdint>
#include <string>

namespace dtrain {

// The least of what the host has available and what the container (cgroup v2 or v1) leaves, both with caches that the
// kernel would give up counted as free. INT64_MAX where neither says. `root` is where /proc and /sys lie.
int64_t AvailableMemoryBytes(const std::string& root = "");

}  // namespace dtrain
