// What whoever holds a job's coordinator (cluster/launcher.h, cluster/hosted_job.h) is told of it, and how the job ends.
#pragma once
#include <functional>
#include <string>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"

namespace dtrain {

struct JobOptions {
  int ranks = 1;
  std::string run_directory;                        // made if absent; gets processes.json and, while the job runs, .control
  std::string job_description;                      // handed to every rank by Member::job_description()
  Duration deadline = std::chrono::seconds(5);      // heartbeat silence after which a rank is dead
  Duration slow = std::chrono::seconds(10);         // a rank that others wait for is named
  Duration stall = std::chrono::minutes(10);        // and ends the job
  Duration start_limit = std::chrono::seconds(60);  // for all ranks to join
  Duration stop_limit = std::chrono::seconds(2);    // after a failure the other ranks have this long to end by themselves
  bool handle_signals = true;                       // SIGTERM, SIGINT, SIGUSR1 ask for a stop; a second SIGINT within 5 s kills

  // All called by one thread. May be empty.
  std::function<void(int rank, const std::string& event)> on_event;  // what Member::Report sent
  // A slow rank, a rank that was turned away, a log that cannot be written (kWarning); a stop request (kInfo).
  std::function<void(LogLevel level, const std::string& text)> on_notice;
  std::function<void()> on_tick;                                  // every 100 ms
  std::function<std::string(const std::string& query)> on_query;  // AskJob's "status"; empty text: not understood
};

// kInvalidArgument names what is out of its range.
Status CheckJobOptions(const JobOptions& options);

struct JobOutcome {
  ExitCode code = ExitCode::kDone;
  Status status;                 // not OK unless code is kDone; of a failure it names rank, step and cause
  bool stopped_by_user = false;  // a signal, a client or RequestStop asked for the end
  int culprit = -1;              // the rank that caused a failure; -1: none or several
};

}  // namespace dtrain
