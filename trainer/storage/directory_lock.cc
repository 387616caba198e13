#include "trainer/storage/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/text.h"
#include "trainer/storage/posix_error.h"

namespace dtrain {
namespace {

// "process 4711 on node-3", as the holder wrote it; the text is only shown.
std::string Holder(int descriptor) {
  char text[256];
  const ssize_t count = ::pread(descriptor, text, sizeof text, 0);
  const std::string_view holder = Trim(std::string_view(text, count > 0 ? static_cast<size_t>(count) : 0));
  return holder.empty() ? "another process" : std::string(holder);
}

}  // namespace

StatusOr<DirectoryLock> DirectoryLock::Acquire(const std::string& directory) {
  const std::string path = directory + "/.lock";
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) return PosixError("open", path, errno);
  DirectoryLock lock(descriptor);
  int result;
  do {
    result = ::flock(descriptor, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EWOULDBLOCK) {
    return WithHint(FailedPrecondition("lock ", directory, ": ", Holder(descriptor), " is using it"),
                    "wait for it (dtrain status), stop it (dtrain stop), or give this run another run.name");
  }
  if (result != 0) return PosixError("lock", path, errno);
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const std::string holder = Cat("process ", ::getpid(), " on ", host, "\n");
  // The text only serves another's error message, so a full disk is no reason not to hold the lock.
  if (::ftruncate(descriptor, 0) == 0 && ::pwrite(descriptor, holder.data(), holder.size(), 0) < 0) errno = 0;
  return lock;
}

DirectoryLock::DirectoryLock(DirectoryLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

DirectoryLock& DirectoryLock::operator=(DirectoryLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

DirectoryLock::~DirectoryLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace dtrain
