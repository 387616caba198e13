#include "cluster/run_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/value.h"
#include "cluster/file_descriptor.h"
#include "cluster/job_environment.h"

namespace dtrain {
namespace {

constexpr std::string_view kControlHead = "dtrain control 1";

std::string ControlPath(const std::string& run_directory) { return Cat(run_directory, "/.control"); }

// All of `text` or the file that was there before.
Status ReplaceFile(const std::string& path, std::string_view text, mode_t mode) {
  const std::string next = Cat(path, ".", getpid(), ".tmp");
  unlink(next.c_str());
  const FileDescriptor file(open(next.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!file.open()) return Unavailable("write ", path, ": ", std::strerror(errno));
  for (size_t written = 0; written < text.size();) {
    const ssize_t count = write(file.fd(), text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = errno;
      unlink(next.c_str());
      return MakeStatus(error == ENOSPC ? StatusCode::kResourceExhausted : StatusCode::kUnavailable, "write ", path, ": ",
                        std::strerror(error));
    }
    written += static_cast<size_t>(count);
  }
  if (rename(next.c_str(), path.c_str()) != 0) {
    const int error = errno;
    unlink(next.c_str());
    return Unavailable("write ", path, ": ", std::strerror(error));
  }
  return OkStatus();
}

}  // namespace

Status WriteProcessTable(const std::string& run_directory, std::span<const ProcessEntry> processes) {
  std::string text = "[";
  for (const ProcessEntry& process : processes) {
    Value::Map entry = {{"pid", process.pid}, {"role", process.role}, {"number", process.number}, {"host", process.host}};
    if (!process.ended.empty()) entry["ended"] = process.ended;
    text += Cat(text.size() > 1 ? ",\n " : "\n ", Value(std::move(entry)).ToJson());
  }
  text += "\n]\n";
  return ReplaceFile(Cat(run_directory, "/processes.json"), text, 0644);
}

Status WriteControlFile(const std::string& run_directory, const ControlFile& control) {
  return ReplaceFile(ControlPath(run_directory), Cat(kControlHead, "\n", ToText(control.coordinator), "\n", control.token, "\n"), 0600);
}

StatusOr<ControlFile> ReadControlFile(const std::string& run_directory) {
  const std::string path = ControlPath(run_directory);
  std::ifstream file(path);
  if (!file) {
    if (access(path.c_str(), F_OK) == 0) {
      return FailedPrecondition("ask the job in ", run_directory, ": ", path, " cannot be read; only the user who started it can ask");
    }
    return FailedPrecondition("ask the job in ", run_directory, ": no job runs there (", path, " does not exist)");
  }
  std::string head, address, token;
  std::getline(file, head);
  std::getline(file, address);
  std::getline(file, token);
  auto parsed = ParseAddress(address);
  if (head != kControlHead || !parsed.ok() || token.empty()) {
    return FailedPrecondition("ask the job in ", run_directory, ": ", path, " is no control file of this version of dtrain");
  }
  return ControlFile{*std::move(parsed), std::move(token)};
}

void RemoveControlFile(const std::string& run_directory) { unlink(ControlPath(run_directory).c_str()); }

}  // namespace dtrain
