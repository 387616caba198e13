// Under mpirun the ranks are told their numbers but not where rank 0 is: they hear it by one MPI broadcast, after which MPI
// is not needed any more. A library of its own (dtrain::mpi), so that nothing else links MPI; MPI's header is in the .cc only.
#pragma once
#include <functional>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "cluster/launcher_environment.h"
#include "cluster/rendezvous.h"

namespace dtrain {

// Whether MPI is still in use afterwards, for allreduce/mpi_communicator.h; then this process ends it (FinalizeMpi).
enum class MpiAfterwards { kOver, kInUse };

// Collective over all processes of mpirun; call once in a process, before its other threads start. Rank 0 calls `host`, which
// holds the job (cluster/hosted_job.h) and says where; the others get {address, token}, rank 0 what it said. If `host` fails,
// rank 0 gets its error and the others one that quotes it. kFailedPrecondition if MPI's numbers are not the environment's (a
// program linked with another MPI than that of its mpirun is alone in a world of its own).
// MPI has waits that nothing ends: a process that hangs in one past `deadline` is ended with exit code 4 and a message.
StatusOr<Rendezvous> MeetByMpi(const LauncherEnvironment& environment, const std::function<StatusOr<Rendezvous>()>& host, Deadline deadline,
                               MpiAfterwards afterwards = MpiAfterwards::kOver);

// The host on which rank 0 listens under mpirun: loopback if all ranks are on one host, else cluster/local_address.h's choice.
StatusOr<std::string> MpiListenHost(const LauncherEnvironment& environment, const std::string& interface);

}  // namespace dtrain
