// The communicator of ranks that mpirun or srun started: the cluster's own MPI carries the data over its own interconnect. Every
// call is MPI's non-blocking collective, tested until it is done, its deadline has passed, or the job has failed elsewhere: a
// blocking one would hang the survivors of a rank's death for ever.
// MPI cannot tell the others that a rank gave up: their waits end by `health` (a job's coordinator knows) or at their deadline.
// Sums are in MPI's order, which depends on its algorithm for the size and the number of ranks, not on time. Sums of bf16 go as
// floats and are rounded once. A library of its own (dtrain::mpi_communicator); MPI's header is in the .cc only.
#pragma once
#include <functional>
#include <memory>

#include "allreduce/communicator.h"

namespace dtrain {

struct MpiOptions {
  // A rank that waits polls this: an error ends the wait with it. Never blocks.
  std::function<Status()> health = [] { return OkStatus(); };
};

// All ranks of MPI_COMM_WORLD; MPI was initialised by this process (cluster/mpi_rendezvous.h) and outlives the communicator.
// Collective. One thread at a time; not only the one that initialised MPI if that allowed MPI_THREAD_SERIALIZED.
// kFailedPrecondition if MPI is not in use or does not allow that.
StatusOr<std::unique_ptr<Communicator>> OpenMpiCommunicator(const MpiOptions& options, Deadline deadline);

// Ends MPI in this process, if it is in use: every rank does, when all is well. A rank that failed must not, it would wait for the
// others for ever; it just ends.
void FinalizeMpi();

}  // namespace dtrain
