// The files of a run directory that say who runs there: processes.json for people and scripts, .control for other
// commands of the same user.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "base/transport.h"

namespace dtrain {

struct ProcessEntry {
  int64_t pid = 0;
  std::string role;  // launcher, rank
  int number = 0;
  std::string host;
  std::string ended;  // how; empty: it runs
};

// processes.json: a list of {pid, role, number, host} and, once the process has ended, "ended". Replaced as a whole.
Status WriteProcessTable(const std::string& run_directory, std::span<const ProcessEntry> processes);

// Where the job's coordinator listens, and the token that it asks for. Readable by the user alone.
struct ControlFile {
  Address coordinator;
  std::string token;
};
Status WriteControlFile(const std::string& run_directory, const ControlFile& control);
// kFailedPrecondition if there is none: no job runs there.
StatusOr<ControlFile> ReadControlFile(const std::string& run_directory);
void RemoveControlFile(const std::string& run_directory);

}  // namespace dtrain
