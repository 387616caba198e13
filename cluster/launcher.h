// `-n N`: starts N ranks on this host, holds the job's coordinator, shows and records what the ranks print, and ends with
// one outcome. No rank outlives its launcher, however that ends (the kernel kills them: PR_SET_PDEATHSIG).
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace dtrain {

struct LaunchOptions {
  std::vector<std::string> command;      // program (looked up in PATH if it has no '/') and arguments, the same for every rank
  std::vector<std::string> environment;  // "NAME=value", beside the launcher's own environment
  int ranks = 1;
  std::string run_directory;                    // made if absent; gets processes.json, logs/rank-N.log and, while the job runs, .control
  std::string job_description;                  // handed to every rank by Member::job_description()
  Duration deadline = std::chrono::seconds(5);  // heartbeat silence after which a rank is dead
  Duration slow = std::chrono::seconds(10);     // a rank that others wait for is named
  Duration stall = std::chrono::minutes(10);    // and ends the job
  Duration start_limit = std::chrono::seconds(60);  // for all ranks to join
  Duration stop_limit = std::chrono::seconds(2);    // after a failure the other ranks have this long to end by themselves
  int segment_fd = -1;                              // inherited by the ranks (DTRAIN_SEGMENT_FD); stays the caller's
  bool handle_signals = true;                       // SIGTERM, SIGINT, SIGUSR1 ask for a stop; a second SIGINT within 5 s kills

  // All called by the thread that is in Run. May be empty.
  std::function<void(int rank, const std::string& event)> on_event;  // what Member::Report sent
  std::function<void(std::string_view line)> on_output;              // a line of a rank's output: "rank 1 | ..."
  std::function<void(const std::string& text)> on_notice;            // a slow rank, a stop request, a log that cannot be written
  std::function<void()> on_tick;                                     // every 100 ms
  std::function<std::string(const std::string& query)> on_query;     // AskJob's "status"; empty text: not understood
};

struct JobOutcome {
  ExitCode code = ExitCode::kDone;
  Status status;                 // not OK unless code is kDone; of a failure it names rank, step and cause and shows the rank's last lines
  bool stopped_by_user = false;  // a signal, a client or RequestStop asked for the end
  int culprit = -1;              // the rank that caused a failure; -1: none or several
};

class Launcher {
 public:
  // The ranks run once this returns. Call Run from the same thread: the kernel ties the ranks' lives to the thread that
  // started them. Errors carry kSetUp (a command that is not there, a run directory that cannot be written).
  static StatusOr<std::unique_ptr<Launcher>> Start(const LaunchOptions& options);
  ~Launcher();  // kills what still runs

  // Until the job has ended and no rank is left. Once.
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
