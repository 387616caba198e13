// `-n N`: starts N ranks on this host, holds the job's coordinator, shows and records what the ranks print, and ends with
// one outcome. No rank outlives its launcher, however that ends (the kernel kills them: PR_SET_PDEATHSIG).
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "cluster/job.h"

namespace dtrain {

struct LaunchOptions : JobOptions {
  std::vector<std::string> command;      // program (looked up in PATH if it has no '/') and arguments, the same for every rank
  std::vector<std::string> environment;  // "NAME=value", beside the launcher's own environment
  int segment_fd = -1;                   // inherited by the ranks (DTRAIN_SEGMENT_FD); stays the caller's
  std::function<void(std::string_view line)> on_output;  // a line of a rank's output: "rank 1 | ..."
};

class Launcher {
 public:
  // The ranks run once this returns, and print into `run_directory`/logs/rank-N.log. Call Run from the same thread: the kernel ties the
  // ranks' lives to the thread that started them. Errors carry kSetUp (a command that is not there, a run directory that cannot be
  // written).
  static StatusOr<std::unique_ptr<Launcher>> Start(const LaunchOptions& options);
  ~Launcher();  // kills what still runs

  // Until the job has ended and no rank is left. Calls what the options say. The status of a failure shows the culprit's
  // last lines. Once.
  JobOutcome Run();

  // From any thread. Rank 0 sees them in Member::requests().
  void RequestStop();
  void RequestSave();

 private:
  struct State;
  explicit Launcher(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dtrain
