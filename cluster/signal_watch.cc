#include "cluster/signal_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace dtrain {
namespace {

std::atomic<int> pipe_to_watch = -1;
static_assert(std::atomic<int>::is_always_lock_free);

void Forward(int signal) {
  const int error = errno;
  const auto number = static_cast<unsigned char>(signal);
  if (const int fd = pipe_to_watch.load(); fd >= 0) (void)!write(fd, &number, 1);  // full: enough signals wait already
  errno = error;
}

}  // namespace

StatusOr<std::unique_ptr<SignalWatch>> SignalWatch::Start(std::span<const int> signals) {
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return ResourceExhausted("watch signals: ", std::strerror(errno));
  std::unique_ptr<SignalWatch> watch(new SignalWatch);
  watch->read_ = FileDescriptor(ends[0]);
  watch->write_ = FileDescriptor(ends[1]);
  int none = -1;
  if (!pipe_to_watch.compare_exchange_strong(none, ends[1])) {
    return FailedPrecondition("watch signals: this process watches them already; one launcher at a time handles signals");
  }
  struct sigaction action = {};
  action.sa_handler = Forward;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : signals) {
    struct sigaction before;
    if (sigaction(signal, &action, &before) != 0) return Unavailable("watch signal ", signal, ": ", std::strerror(errno));
    watch->before_.emplace_back(signal, before);
  }
  return watch;
}

SignalWatch::~SignalWatch() {
  for (const auto& [signal, before] : before_) sigaction(signal, &before, nullptr);
  int own = write_.fd();
  pipe_to_watch.compare_exchange_strong(own, -1);
}

std::vector<int> SignalWatch::Take() {
  std::array<unsigned char, 64> numbers;
  const ssize_t count = read(read_.fd(), numbers.data(), numbers.size());
  return count > 0 ? std::vector<int>(numbers.begin(), numbers.begin() + count) : std::vector<int>();
}

}  // namespace dtrain
