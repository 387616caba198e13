// A child process of the launcher: in a process group of its own, its output in a pipe, killed by the kernel when the
// thread that started it ends.
#pragma once
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "cluster/coordinator.h"
#include "cluster/file_descriptor.h"

namespace dtrain {

struct SpawnOptions {
  std::vector<std::string> command;      // looked up in PATH if it has no '/'
  std::vector<std::string> environment;  // "NAME=value", on top of this process's own; "NAME" without '=' removes it
  int inherited_fd = -1;                 // stays open in the child under the same number; every other one above 2 is closed
};

class Process {
 public:
  // Runs once this returns; standard input is /dev/null. kNotFound, kPermissionDenied for a command that cannot be executed.
  static StatusOr<Process> Spawn(const SpawnOptions& options);
  Process(Process&& other) noexcept;
  Process& operator=(Process&&) = delete;
  ~Process();  // kills it and what it started

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.fd(); }    // readable once it has ended
  int output() const { return output_.fd(); }  // what it prints, both streams; does not block
  void CloseOutput() { output_.Reset(); }
  // How it ended, once it has. Never blocks.
  std::optional<ProcessEnd> Poll();
  // To it and what it started; nothing once it was seen to have ended.
  void Signal(int signal) const;

 private:
  Process(pid_t pid, FileDescriptor pidfd, FileDescriptor output);
  pid_t pid_ = -1;
  FileDescriptor pidfd_, output_;
  std::optional<ProcessEnd> end_;
};

}  // namespace dtrain
