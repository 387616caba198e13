// The coordinator of a job that no launcher started, in rank 0's own process: in a thread, beside the training. What
// cluster/launcher.h is for ranks that it starts, this is for ranks that somebody else started (cluster/rendezvous.h): the same
// options, the same outcome. If rank 0's process dies, the others lose the coordinator and end with code 5.
#pragma once
#include <memory>

#include "cluster/job.h"
#include "cluster/job_environment.h"
#include "cluster/rendezvous.h"

namespace dtrain {

class HostedJob {
 public:
  // Listens, and lets ranks join from now on; `options.ranks` is the rendezvous' world size. The options' functions are
  // called by the job's thread, never after Wait. A third SIGINT ends this process by itself. Errors carry kSetUp: a port that is
  // taken, an address that is not this host's, a run directory that cannot be written.
  static StatusOr<std::unique_ptr<HostedJob>> Start(const Rendezvous& rendezvous, const JobOptions& options);
  // Without a Wait before, the job fails.
  ~HostedJob();

  // How rank 0's own Member joins. Its address and token are what the other ranks need.
  const JobEnvironment& job() const;

  // From any thread. Rank 0 sees them in Member::requests().
  void RequestStop();
  void RequestSave();

  // Until every rank has left or the job has failed. Once, when rank 0 has said its last word (or has failed to join). Ranks
  // that have not left at `deadline` fail the job and are named.
  JobOutcome Wait(Deadline deadline);

 private:
  struct State;
  explicit HostedJob(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// For the ranks beside: SIGTERM, SIGINT and SIGUSR1 ask the whole job for a stop while this lives; a second SIGINT soon after
// the first ends this process. (srun and mpirun send signals to every rank.)
class StopBySignal {
 public:
  // kFailedPrecondition if signals are watched in this process already. `member` outlives this.
  static StatusOr<std::unique_ptr<StopBySignal>> Start(Member& member);
  ~StopBySignal();

 private:
  struct State;
  explicit StopBySignal(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dtrain
