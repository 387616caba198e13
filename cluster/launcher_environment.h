// What mpirun (Open MPI, MPICH and their kin) or srun tells a process that it started: its number and how many there are.
// Reads environment variables only; no MPI, no Slurm.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/transport.h"
#include "cluster/rendezvous.h"

namespace dtrain {

struct LauncherEnvironment {
  enum class Kind { kOpenMpi, kMpich, kSlurm };
  Kind kind = Kind::kOpenMpi;
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;  // among the ranks of this host
  int local_size = 1;  // how many those are
  // Of Slurm alone.
  std::string node_list;
  int64_t job_id = 0;
  int64_t step_id = 0;

  std::string which() const;  // "mpirun (Open MPI)", "mpiexec (MPICH)", "srun"
};

// The variable's value; null if it is not set. std::getenv, as a rule.
using LookUp = std::function<const char*(const char* name)>;

// What started this process as one of several; nothing if nobody did. Not a launch: a world of one, and the shell of a Slurm
// allocation (a batch script, `srun --pty bash`), which is no step with tasks.
// Inside an srun step mpirun is the nearer one: its ranks also see the variables of the step in which its daemons run.
// kFailedPrecondition, with ExitCode kSetUp, names the variables and both values if they contradict each other.
StatusOr<std::optional<LauncherEnvironment>> ReadLauncherEnvironment();
StatusOr<std::optional<LauncherEnvironment>> ReadLauncherEnvironment(const LookUp& look_up);

// The names in a Slurm node list, in order: "tux[1-3,6],login" is tux1, tux2, tux3, tux6, login. Leading zeros are kept; several
// brackets multiply, the last one fastest. kInvalidArgument says where it is wrong; kResourceExhausted above 65,536 names.
StatusOr<std::vector<std::string>> ExpandNodeList(std::string_view list);

// Where rank 0 of an srun step listens: on the first node of the list, at a port that is a function of job and step (12000 to
// 31999, below those that the kernel gives out). Two steps on one node may meet by chance: then rank 0 says that the port is
// taken, and --rendezvous names another. Job and step are no secret, so they make no token: it is DTRAIN_TOKEN's, or goes
// through the run directory, which the nodes then must share (cluster/rendezvous.h).
StatusOr<Rendezvous> SlurmRendezvous(const LauncherEnvironment& environment, const std::string& run_directory,
                                     const std::string& interface = "");

}  // namespace dtrain
