// How the ranks of a job that no launcher started find each other: all are told rank 0's address, their number and how
// many they are (`--rendezvous host:port --rank r --world n`, or by mpirun or srun: cluster/launcher_environment.h). Rank 0's
// process holds the coordinator (cluster/hosted_job.h), the others join it.
//
// The token is DTRAIN_TOKEN or the content of the file that DTRAIN_TOKEN_FILE names. Without both, rank 0 makes one and the
// others read it from its run directory's .control, which only the same user can: so who shares the run directory is of the
// job, and ranks of another job, which has a run directory of its own, are turned away even if they were told the same
// address. That serves where all ranks see one run directory: on one host, or on a file system that a cluster shares.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "base/transport.h"
#include "cluster/member.h"

namespace dtrain {

inline constexpr size_t kTokenBytesMin = 16;

struct Rendezvous {
  Address address;  // where rank 0 listens. For rank 0: port 0 takes any; no host means the one address of its host
  int rank = 0;
  int world_size = 1;
  std::string token;          // empty: through the run directory, as above
  std::string run_directory;  // rank 0's; the others need it only for the token
  std::string interface;      // strategy.interface: on which rank 0 listens, if not on `address`
};

// DTRAIN_TOKEN, which is removed from the environment so that no child inherits it, or the file of DTRAIN_TOKEN_FILE; empty if
// neither is set. kInvalidArgument if both are, if the token is shorter than kTokenBytesMin, or if every user of the machine
// can read the file. Call before other threads start.
StatusOr<std::string> TokenFromEnvironment();

// Checks what a user gave, with the token from the environment. kInvalidArgument; kFailedPrecondition if there is no token
// though `address` is not a loopback one. Errors carry ExitCode kUsage.
StatusOr<Rendezvous> MakeRendezvous(std::string_view address, int64_t rank, int64_t world_size, const std::string& run_directory,
                                    const std::string& interface = "");

// Joins as any rank but 0, whose HostedJob says how to. Waits for rank 0 until `deadline`. kPermissionDenied with the reason if
// it refuses (two processes with one number, a contradiction in the world size); kUnavailable, kDeadlineExceeded if it is not
// there, or its token is not.
StatusOr<std::unique_ptr<Member>> JoinRendezvous(Transport& transport, const Rendezvous& rendezvous, const Clock& clock, Deadline deadline);

}  // namespace dtrain
