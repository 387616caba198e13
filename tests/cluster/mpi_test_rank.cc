// A rank for the test of cluster/mpi_rendezvous.h, to be started by mpirun: mpi_test_rank HOW RUN_DIRECTORY. It meets the others
// by MPI, joins the job that rank 0 holds, gathers once and leaves.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "cluster/hosted_job.h"
#include "cluster/mpi_rendezvous.h"
#include "cluster/tcp_transport.h"

namespace dtrain {
namespace {

using std::chrono::seconds;

int Fail(const Status& status) {
  std::fprintf(stderr, "error: %s\n", Message(status).c_str());
  return static_cast<int>(ExitCodeOf(status, ExitCode::kRankFailed));
}

int Main(const std::string& how, const std::string& run_directory) {
  const Deadline deadline = Deadline::In(seconds(30));
  auto environment = ReadLauncherEnvironment();
  if (!environment.ok()) return Fail(environment.status());
  if (!environment->has_value()) return Fail(Internal("not started by mpirun"));
  LauncherEnvironment& mine = **environment;
  if (how == "wrong-world") ++mine.world_size;
  if (how == "hang" && mine.rank == 1) std::this_thread::sleep_for(seconds(60));
  std::unique_ptr<HostedJob> host;
  auto met = MeetByMpi(
      mine,
      [&]() -> StatusOr<Rendezvous> {
        if (how == "no-host") return FailedPrecondition("the disk is full");
        Rendezvous here{.world_size = mine.world_size, .run_directory = run_directory};
        ASSIGN_OR_RETURN(here.address.host, MpiListenHost(mine, ""));
        ASSIGN_OR_RETURN(host, HostedJob::Start(here, {.run_directory = run_directory, .job_description = "train this"}));
        here.address = host->job().coordinator;
        here.token = host->job().token;
        return here;
      },
      how == "hang" ? Deadline::In(seconds(1)) : deadline);
  if (!met.ok()) return Fail(met.status());
  TcpTransport transport;
  auto member = host != nullptr ? Member::Join(transport, host->job(), SystemClock(), deadline)
                                : JoinRendezvous(transport, *met, SystemClock(), deadline);
  if (!member.ok()) return Fail(member.status());
  const auto all = (*member)->AllGather("hosts", Cat(mine.rank, "/", mine.local_rank), deadline);
  if (!all.ok()) return Fail(all.status());
  const std::string line = Cat("rank ", mine.rank, " ", (*member)->job_description(), " ", Join(*all, ","), "\n");
  if (write(STDOUT_FILENO, line.data(), line.size()) < 0) return 1;
  (void)(*member)->Leave(OkStatus(), deadline);
  if (host == nullptr) return 0;
  const JobOutcome outcome = host->Wait(deadline);
  return outcome.status.ok() ? 0 : Fail(outcome.status);
}

}  // namespace
}  // namespace dtrain

int main(int argc, char** argv) { return argc == 3 ? dtrain::Main(argv[1], argv[2]) : 2; }
