// One process at a time writes a run directory. By flock(2) on `<directory>/.lock`: the kernel lets go when the holder
// ends, however it ends, so a lock is never stale. The coordinator's process takes it before it writes anything.
#pragma once
#include <string>

#include "base/status.h"

namespace dtrain {

class DirectoryLock {
 public:
  // Never waits. `directory` exists. kFailedPrecondition if another process (or another lock of this one) holds it;
  // the message names that process.
  static StatusOr<DirectoryLock> Acquire(const std::string& directory);

  DirectoryLock(DirectoryLock&& other) noexcept;
  DirectoryLock& operator=(DirectoryLock&& other) noexcept;
  ~DirectoryLock();  // lets go; the file stays, for removing it would let two processes hold two locks

 private:
  explicit DirectoryLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace dtrain
