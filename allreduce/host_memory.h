// How much memory this process may still take. Memory of a shared segment cannot be swapped for an error message: where
// it runs out, the kernel kills whoever it finds. So it is asked before.
#pragma once
#include <cstdint>
#include <string>

namespace dtrain {

// The least of what the host has available and what the container (cgroup v2 or v1) leaves, both with caches that the
// kernel would give up counted as free. INT64_MAX where neither says. `root` is where /proc and /sys lie.
int64_t AvailableMemoryBytes(const std::string& root = "");

// Tells malloc to keep memory that was freed instead of giving it back to the kernel, for the whole process: messages of
// some hundred KiB are else mapped and cleared anew each time (measured: all-reduce over links twice as fast).
void KeepFreedMemory();

}  // namespace dtrain
