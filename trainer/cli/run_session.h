// A training run as the process that records it sees it: the run directory with its lock, whether it goes on, starts anew or is
// finished already, and what people see of it while it runs.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "cluster/job.h"
#include "trainer/cli/arguments.h"
#include "trainer/config/config.h"
#include "trainer/report/recorder.h"
#include "trainer/report/run_directory.h"
#include "trainer/storage/directory_lock.h"

namespace dtrain {

class RunSession {
 public:
  // Null if the run is finished already and the configuration would not prolong it: its result was printed. Everything that
  // cannot go on is an error with its exit code, and then nothing was changed. `arguments` are those of `train`; `ranks` is what -n
  // starts here, nothing if others start the ranks.
  static StatusOr<std::unique_ptr<RunSession>> Open(const Arguments& arguments, const Config& config, std::optional<int> ranks);

  const RunDirectory& directory() const { return directory_; }
  // What the job is to tell this session.
  void Listen(JobOptions* options);
  void ShowOutput(std::string_view line) { recorder_->OnOutput(line); }
  // The last word about the job, to people and files. Returns the exit code.
  ExitCode Finish(const JobOutcome& outcome);

 private:
  RunSession(RunDirectory directory, DirectoryLock lock, bool json);
  RunDirectory directory_;
  DirectoryLock lock_;
  bool json_;
  std::unique_ptr<Recorder> recorder_;
};

// Where the run of `config` lies.
std::string RunDirectoryOf(const Config& config);

}  // namespace dtrain
