// The main() of a program that is its own rank: started by a launcher it trains, started by a person it is the command
// line, with itself as the program of its ranks.
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "allreduce/mpi_communicator.h"
#include "base/log.h"
#include "cluster/member.h"
#include "cluster/mpi_rendezvous.h"
#include "cluster/tcp_transport.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/cli/cli.h"
#include "trainer/torch_training.h"
#include "trainer/torch_verbs.h"

namespace dtrain {
namespace {

constexpr Duration kJoinLimit = std::chrono::seconds(30);
constexpr Duration kLeaveLimit = std::chrono::seconds(5);

// LibTorch throws; what it says is as good as a status.
Status Guarded(const std::function<Status()>& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return WithExitCode(ResourceExhausted("train: out of memory"), ExitCode::kSetUp);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return Internal("train: ", text.substr(0, text.find("\nException raised")));
  }
}

Status TrainAsMember(const TrainingJob& job, Member& member) {
  return Guarded([&]() -> Status {
    const auto channel = MakeMemberChannel(member);
    return RunTraining(job, *channel);
  });
}

// Started by a launcher.
int RankMain() {
  auto environment = ReadJobEnvironment();
  if (!environment.ok()) return ReportError(environment.status(), ExitCode::kSetUp);
  TcpTransport transport;
  auto member = Member::Join(transport, *environment, SystemClock(), Deadline::In(kJoinLimit));
  if (!member.ok()) return ReportError(member.status(), ExitCode::kSetUp);
  const Status status = [&]() -> Status {
    ASSIGN_OR_RETURN(const Value description, ParseJson((*member)->job_description()));
    ASSIGN_OR_RETURN(TrainingJob job, TrainingJob::FromValue(description));
    job.segment_fd = environment->segment_fd;
    return TrainAsMember(job, **member);
  }();
  // The first to fail says why; a rank that only noticed has nothing to add.
  const bool echo = !status.ok() && !(*member)->Health().ok();
  if (const Status left = (*member)->Leave(status, Deadline::In(kLeaveLimit)); !left.ok() && !echo) Log(LogLevel::kWarning, Message(left));
  return status.ok() ? 0 : static_cast<int>(ExitCodeOf(status, ExitCode::kRankFailed));
}

}  // namespace
}  // namespace dtrain

int main(int argc, char** argv) {
  using namespace dtrain;
  if (StartedAsRank()) return RankMain();
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (const auto code = TorchVerb(words)) return *code;
  std::error_code error;
  RankProgram program{.path = std::filesystem::read_symlink("/proc/self/exe", error).string(), .train = TrainAsMember};
#ifdef DTRAIN_WITH_MPI
  program.meet_by_mpi = [](const LauncherEnvironment& environment, const auto& host, Deadline deadline) {
    return MeetByMpi(environment, host, deadline, MpiAfterwards::kInUse);
  };
  program.mpi_communicator = [](const std::function<Status()>& health, Deadline deadline) {
    return OpenMpiCommunicator({.health = health}, deadline);
  };
  program.finalize_mpi = FinalizeMpi;
  program.mpi_listen_host = MpiListenHost;
#endif
  return CliMain(words, program);
}
