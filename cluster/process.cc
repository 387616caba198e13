#include "cluster/process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <map>
#include <utility>

namespace dtrain {
namespace {

// The environment for execve: our own with the changes.
std::vector<std::string> Environment(const std::vector<std::string>& changes) {
  std::map<std::string, std::string> variables;
  const auto put = [&](const std::string& entry) {
    const size_t equals = entry.find('=', 1);
    if (equals == std::string::npos) {
      variables.erase(entry);
    } else {
      variables[entry.substr(0, equals)] = entry;
    }
  };
  for (char** entry = environ; *entry != nullptr; ++entry) put(*entry);
  for (const std::string& change : changes) put(change);
  std::vector<std::string> entries;
  for (auto& [name, entry] : variables) entries.push_back(std::move(entry));
  return entries;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Both ends above 2, so that the child's dup2 onto 0, 1, 2 meets none of them.
Status MakePipe(FileDescriptor& read_end, FileDescriptor& write_end) {
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return ResourceExhausted("make a pipe: ", std::strerror(errno));
  const FileDescriptor low_read(ends[0]), low_write(ends[1]);
  read_end = FileDescriptor(fcntl(low_read.fd(), F_DUPFD_CLOEXEC, 3));
  write_end = FileDescriptor(fcntl(low_write.fd(), F_DUPFD_CLOEXEC, 3));
  if (!read_end.open() || !write_end.open()) return ResourceExhausted("make a pipe: ", std::strerror(errno));
  return OkStatus();
}

// Between fork and exec: nothing but system calls. Does not return; tells `error_fd` why it could not.
[[noreturn]] void BecomeChild(pid_t parent, char* const* command, char* const* environment, int null_fd, int output_fd, int inherited_fd,
                              int error_fd) {
  setpgid(0, 0);
  // The parent may have died before prctl: then nobody would ever send the signal.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(127);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  if (dup2(null_fd, STDIN_FILENO) >= 0 && dup2(output_fd, STDOUT_FILENO) >= 0 && dup2(output_fd, STDERR_FILENO) >= 0) {
    // Libraries may have opened descriptors without O_CLOEXEC.
    syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
    if (inherited_fd < 0 || fcntl(inherited_fd, F_SETFD, 0) == 0) execvpe(command[0], command, environment);
  }
  const int error = errno;
  (void)!write(error_fd, &error, sizeof error);
  _exit(127);
}

}  // namespace

StatusOr<Process> Process::Spawn(const SpawnOptions& options) {
  if (options.command.empty() || options.command.front().empty()) return InvalidArgument("start a process: the command is empty");
  const std::string what = Cat("start ", options.command.front());
  std::vector<std::string> command = options.command, environment = Environment(options.environment);
  const std::vector<char*> arguments = Pointers(command), variables = Pointers(environment);
  FileDescriptor output_read, output_write, error_read, error_write;
  RETURN_IF_ERROR(MakePipe(output_read, output_write));
  RETURN_IF_ERROR(MakePipe(error_read, error_write));
  fcntl(output_read.fd(), F_SETFL, O_NONBLOCK);
  const FileDescriptor low_null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const FileDescriptor null(fcntl(low_null.fd(), F_DUPFD_CLOEXEC, 3));
  if (!null.open()) return Unavailable("open /dev/null: ", std::strerror(errno));

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ResourceExhausted(what, ": ", std::strerror(errno));
  if (pid == 0) {
    BecomeChild(parent, arguments.data(), variables.data(), null.fd(), output_write.fd(), options.inherited_fd, error_write.fd());
  }
  setpgid(pid, pid);  // here too, so that the group is there before the first Signal; one of the two comes first
  FileDescriptor pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  const int pidfd_error = errno;
  Process process(pid, std::move(pidfd), std::move(output_read));
  output_write.Reset();
  error_write.Reset();
  int error = 0;
  ssize_t count = 0;
  do count = read(error_read.fd(), &error, sizeof error);  // ends when exec closes the other end
  while (count < 0 && errno == EINTR);
  if (count == sizeof error) {
    const std::string why = std::strerror(error);
    if (error == ENOENT) return WithHint(NotFound(what, ": ", why), "give the program's path, or its name if it lies in PATH");
    if (error == EACCES) return PermissionDenied(what, ": ", why);
    return Unavailable(what, ": ", why);
  }
  if (process.pidfd() < 0) return Unimplemented(what, ": pidfd_open: ", std::strerror(pidfd_error), " (Linux 5.3 or newer is needed)");
  return process;
}

Process::Process(pid_t pid, FileDescriptor pidfd, FileDescriptor output)
    : pid_(pid), pidfd_(std::move(pidfd)), output_(std::move(output)) {}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)), output_(std::move(other.output_)), end_(other.end_) {}

Process::~Process() {
  if (pid_ <= 0 || end_.has_value()) return;
  Signal(SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::optional<ProcessEnd> Process::Poll() {
  if (end_.has_value()) return end_;
  siginfo_t news = {};
  if (waitid(P_PID, static_cast<id_t>(pid_), &news, WEXITED | WNOHANG | WNOWAIT) == 0) {
    if (news.si_pid == 0) return std::nullopt;
    kill(-pid_, SIGKILL);  // what it started; before the number is free for others
  } else if (errno == EINTR) {
    return std::nullopt;
  }
  int status = 0;
  const pid_t pid = waitpid(pid_, &status, WNOHANG);
  // Anything else than our child means that somebody else reaped it (SIGCHLD ignored): it has ended all the same.
  end_ = pid == pid_ && WIFSIGNALED(status) ? ProcessEnd{.signal = WTERMSIG(status)}
                                            : ProcessEnd{.exit_code = pid == pid_ ? WEXITSTATUS(status) : 255};
  return end_;
}

void Process::Signal(int signal) const {
  if (pid_ <= 0 || end_.has_value()) return;
  if (kill(-pid_, signal) != 0) kill(pid_, signal);
}

}  // namespace dtrain
