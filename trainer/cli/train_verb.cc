// dtrain train: from the configuration to the job's exit code. Starts the ranks (-n N), or is one of those that somebody else
// started.
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "allreduce/shm_communicator.h"
#include "cluster/hosted_job.h"
#include "cluster/launcher.h"
#include "cluster/launcher_environment.h"
#include "cluster/rendezvous.h"
#include "cluster/tcp_transport.h"
#include "cluster/thread_budget.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/cli/cli.h"
#include "trainer/cli/run_session.h"
#include "trainer/config/batch_equation.h"
#include "trainer/job_plan.h"
#include "trainer/report/tables.h"
#include "trainer/start_state.h"

namespace dtrain {
namespace {

constexpr int64_t kLocalRanksMax = 64;
constexpr int64_t kWorldMax = 1024;
constexpr Duration kLeaveLimit = std::chrono::seconds(5);
constexpr Duration kOthersLeaveLimit = std::chrono::minutes(1);  // after rank 0 is done

// Whether the number of ranks fits the configuration; what needs the data is the ranks' matter.
Status CheckRanks(const Config& config, int64_t ranks) {
  RETURN_IF_ERROR(PlanBatch(BatchRequestOf(config.values), ranks).status());
  if (ranks > 1 && config.values.String("strategy.type", "auto") == "local") {
    return WithExitCode(InvalidArgument("strategy.type: found local, which is one process, with ", ranks, " ranks; expected ring or auto"),
                        ExitCode::kConfiguration);
  }
  return OkStatus();
}

// Shows what a dry run found out; writes nothing.
StatusOr<ExitCode> DryRun(LaunchOptions launch, const Arguments& arguments) {
  std::string pattern = (std::filesystem::temp_directory_path() / "dtrain-dry-run-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return Unavailable("make a directory for the dry run under ", pattern);
  launch.run_directory = pattern;
  Value start;
  launch.on_event = [&](int, const std::string& text) {
    if (const auto event = ParseJson(text); event.ok() && event->At("event") == Value("start")) start = *event;
  };
  launch.on_output = [](std::string_view line) { std::fprintf(stderr, "%s\n", std::string(line).c_str()); };
  JobOutcome outcome{.code = ExitCode::kSetUp};
  auto launcher = Launcher::Start(launch);
  if (launcher.ok()) {
    outcome = (*launcher)->Run();
  } else {
    outcome.status = launcher.status();
  }
  std::error_code error;
  std::filesystem::remove_all(pattern, error);
  if (outcome.code != ExitCode::kDone) return WithExitCode(outcome.status, outcome.code);
  if (arguments.json()) {
    Print(start.ToJson() + "\n");
  } else if (!arguments.quiet()) {
    Print(StartTable(start, {}));
    Print("\ndry run: all of this is in place; nothing was trained and nothing written\n");
  }
  return ExitCode::kDone;
}

// What the configuration says about the job as a whole.
void TakeLimits(const Config& config, JobOptions* options) {
  options->deadline = FromSeconds(config.values.Double("strategy.deadline", 5));
  options->stall = FromSeconds(config.values.Double("strategy.stall", 600));
}

StatusOr<TrainingJob> JobOf(const Arguments& arguments, const Config& config) {
  TrainingJob job{.config = config.values,
                  .config_hash = ConfigHash(config),
                  .run_directory = RunDirectoryOf(config),
                  .fresh = arguments.Has("fresh"),
                  .dry_run = arguments.Has("dry-run"),
                  .init_from = arguments.Get("init-from")};
  auto names = ParseNameMap(arguments.Get("init-names"));
  if (!names.ok()) return WithExitCode(names.status(), ExitCode::kUsage);
  job.init_names = *std::move(names);
  return job;
}

// ---- started by hand, by mpirun or by srun: this process is a rank itself

// Rank 0's side: it holds the coordinator and the run directory.
struct Hosting {
  TrainingJob job;
  std::unique_ptr<RunSession> session;  // null: the run is finished already, and the ranks that come are told so
  std::unique_ptr<HostedJob> hosted;
};

StatusOr<std::unique_ptr<Hosting>> Host(const Arguments& arguments, const Config& config, const Rendezvous& rendezvous) {
  auto hosting = std::make_unique<Hosting>();
  ASSIGN_OR_RETURN(hosting->job, JobOf(arguments, config));
  ASSIGN_OR_RETURN(hosting->session, RunSession::Open(arguments, config, std::nullopt));
  hosting->job.finished = hosting->session == nullptr;
  JobOptions options;
  options.ranks = rendezvous.world_size;
  options.run_directory = hosting->job.run_directory;
  options.job_description = hosting->job.ToValue().ToJson();
  TakeLimits(config, &options);
  if (hosting->session != nullptr) hosting->session->Listen(&options);
  auto hosted = HostedJob::Start(rendezvous, options);
  if (!hosted.ok()) {
    if (hosting->session != nullptr) {  // says so, and the caller's exit code is the job's
      hosting->session->Finish({.code = ExitCodeOf(hosted.status(), ExitCode::kSetUp), .status = hosted.status()});
    }
    return hosted.status();
  }
  hosting->hosted = *std::move(hosted);
  return hosting;
}

ExitCode TrainAsHost(Hosting& hosting, const RankProgram& rank_program) {
  TcpTransport transport;
  const auto member = Member::Join(transport, hosting.hosted->job(), SystemClock(), Deadline::In(JobOptions().start_limit));
  if (member.ok()) {
    const Status status = hosting.job.finished ? OkStatus() : rank_program.train(hosting.job, **member);
    (void)(*member)->Leave(status, Deadline::In(kLeaveLimit));  // what it says is in the outcome
  }
  JobOutcome outcome = hosting.hosted->Wait(Deadline::In(member.ok() ? kOthersLeaveLimit : Duration::zero()));
  if (!member.ok()) outcome = {.code = ExitCodeOf(member.status(), ExitCode::kSetUp), .status = member.status()};
  return hosting.session == nullptr ? ExitCode::kDone : hosting.session->Finish(outcome);
}

// As any other rank: the job is what rank 0 says, and what this rank was given must not differ.
StatusOr<ExitCode> TrainAsGuest(const Config& config, const Rendezvous& rendezvous, const RankProgram& rank_program, bool by_mpi = false) {
  TcpTransport transport;
  ASSIGN_OR_RETURN(const auto member, JoinRendezvous(transport, rendezvous, SystemClock(), Deadline::In(JobOptions().start_limit)));
  ASSIGN_OR_RETURN(const auto signals, StopBySignal::Start(*member));
  const Status status = [&]() -> Status {
    ASSIGN_OR_RETURN(const Value description, ParseJson(member->job_description()));
    ASSIGN_OR_RETURN(TrainingJob job, TrainingJob::FromValue(description));
    if (job.finished) return OkStatus();
    job.differences = RankDifferences(job.config, config.values);
    for (const char* own : kOfTheHost) job.config.Set(own, config.values.At(own));
    if (by_mpi) job.mpi_communicator = rank_program.mpi_communicator;
    return rank_program.train(job, *member);
  }();
  const Status left = member->Leave(status, Deadline::In(kLeaveLimit));
  if (!status.ok()) return status;
  RETURN_IF_ERROR(left);
  return ExitCode::kDone;
}

// Told rank 0's address.
StatusOr<ExitCode> TrainAsRank(const Arguments& arguments, const Config& config, const Rendezvous& rendezvous,
                               const RankProgram& rank_program) {
  RETURN_IF_ERROR(CheckRanks(config, rendezvous.world_size));
  if (rendezvous.rank > 0) return TrainAsGuest(config, rendezvous, rank_program);
  ASSIGN_OR_RETURN(const auto hosting, Host(arguments, config, rendezvous));
  return TrainAsHost(*hosting, rank_program);
}

// Started by mpirun or srun.
StatusOr<ExitCode> TrainAsLaunched(const Arguments& arguments, const Config& config, const LauncherEnvironment& launched,
                                   const RankProgram& rank_program) {
  const std::string interface = config.values.String("strategy.interface", "");
  if (launched.kind == LauncherEnvironment::Kind::kSlurm) {
    ASSIGN_OR_RETURN(const Rendezvous rendezvous, SlurmRendezvous(launched, RunDirectoryOf(config), interface));
    return TrainAsRank(arguments, config, rendezvous, rank_program);
  }
  if (!rank_program.meet_by_mpi) {
    return WithExitCode(WithHint(Unimplemented("train under ", launched.which(), ": this dtrain was built without MPI"),
                                 "build it where libopenmpi-dev is installed, or use --rendezvous"),
                        ExitCode::kSetUp);
  }
  RETURN_IF_ERROR(CheckRanks(config, launched.world_size));
  std::unique_ptr<Hosting> hosting;
  const auto host = [&]() -> StatusOr<Rendezvous> {
    Rendezvous rendezvous{.rank = 0, .world_size = launched.world_size, .run_directory = RunDirectoryOf(config), .interface = interface};
    ASSIGN_OR_RETURN(rendezvous.address.host, rank_program.mpi_listen_host(launched, interface));
    ASSIGN_OR_RETURN(hosting, Host(arguments, config, rendezvous));
    rendezvous.address = hosting->hosted->job().coordinator;
    rendezvous.token = hosting->hosted->job().token;
    return rendezvous;
  };
  ASSIGN_OR_RETURN(const Rendezvous rendezvous, rank_program.meet_by_mpi(launched, host, Deadline::In(JobOptions().start_limit)));
  const auto code = [&]() -> StatusOr<ExitCode> {
    if (launched.rank > 0) return TrainAsGuest(config, rendezvous, rank_program, true);
    hosting->job.mpi_communicator = rank_program.mpi_communicator;
    return TrainAsHost(*hosting, rank_program);
  }();
  // Collective: a rank that failed must not wait there for others that will never come. The others must, also after a stop: mpirun
  // kills what still runs, rank 0's last checkpoint for one, soon after a rank has ended with another code than 0.
  const ExitCode ended = code.ok() ? *code : ExitCodeOf(code.status(), ExitCode::kRankFailed);
  if (ended == ExitCode::kDone || ended == ExitCode::kStopped) rank_program.finalize_mpi();
  return code;
}

// ---- -n N: the ranks are processes of this one

StatusOr<ExitCode> TrainHere(const Arguments& arguments, const Config& config, int ranks, const RankProgram& rank_program) {
  RETURN_IF_ERROR(CheckRanks(config, ranks));
  if (access(rank_program.path.c_str(), X_OK) != 0) {
    return WithExitCode(
        WithHint(NotFound("start ranks: ", rank_program.path, " is not there"), "build it, or run dtrain through scripts/dtrain"),
        ExitCode::kSetUp);
  }
  ASSIGN_OR_RETURN(const TrainingJob job, JobOf(arguments, config));
  LaunchOptions launch;
  launch.command = {rank_program.path};
  launch.ranks = ranks;
  launch.environment = {Cat("OMP_NUM_THREADS=", ConfiguredThreads(config.values, UsableCores(), ranks))};
  launch.run_directory = job.run_directory;
  TakeLimits(config, &launch);
  if (ranks > 1) {
    ASSIGN_OR_RETURN(launch.segment_fd, ShmCommunicator::MakeSegment());
  }
  launch.job_description = job.ToValue().ToJson();
  if (job.dry_run) return DryRun(std::move(launch), arguments);
  ASSIGN_OR_RETURN(const auto session, RunSession::Open(arguments, config, ranks));
  if (session == nullptr) return ExitCode::kDone;
  session->Listen(&launch);
  launch.on_output = [&](std::string_view line) { session->ShowOutput(line); };
  JobOutcome outcome{.code = ExitCode::kSetUp};
  if (auto launcher = Launcher::Start(launch); launcher.ok()) {
    outcome = (*launcher)->Run();
  } else {
    outcome.status = launcher.status();
  }
  if (launch.segment_fd >= 0) close(launch.segment_fd);
  return session->Finish(outcome);
}

}  // namespace

StatusOr<ExitCode> TrainVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program) {
  ASSIGN_OR_RETURN(const int64_t ranks, arguments.Int("ranks", 1, 1, kLocalRanksMax));
  ASSIGN_OR_RETURN(const Config config, ConfigOf(arguments, spec, 0));
  if (!arguments.Has("rendezvous")) {
    if (arguments.Has("rank") || arguments.Has("world")) return UsageError(spec, "--rank and --world go with --rendezvous");
    ASSIGN_OR_RETURN(const auto launched, ReadLauncherEnvironment());
    if (!launched) return TrainHere(arguments, config, static_cast<int>(ranks), rank_program);
    if (arguments.Has("ranks")) return UsageError(spec, Cat(launched->which(), " starts the ranks already; expected no -n"));
    if (arguments.Has("dry-run")) return UsageError(spec, "--dry-run goes with -n: it starts its ranks here");
    if (!rank_program.train) return HandOver(rank_program);
    return TrainAsLaunched(arguments, config, *launched, rank_program);
  }
  if (arguments.Has("ranks")) return UsageError(spec, "-n starts ranks here, --rendezvous is one rank; expected one of them");
  if (!arguments.Has("rank") || !arguments.Has("world")) return UsageError(spec, "--rendezvous needs --rank and --world");
  if (arguments.Has("dry-run")) return UsageError(spec, "--dry-run goes with -n: it starts its ranks here");
  if (!rank_program.train) return HandOver(rank_program);
  ASSIGN_OR_RETURN(const int64_t world, arguments.Int("world", 1, 1, kWorldMax));
  ASSIGN_OR_RETURN(const int64_t rank, arguments.Int("rank", 0, 0, world - 1));
  ASSIGN_OR_RETURN(const Rendezvous rendezvous, MakeRendezvous(arguments.Get("rendezvous"), rank, world, RunDirectoryOf(config),
                                                               config.values.String("strategy.interface", "")));
  return TrainAsRank(arguments, config, rendezvous, rank_program);
}

}  // namespace dtrain
