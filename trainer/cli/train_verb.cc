// dtrain train: from the configuration to the job's exit code. Starts the ranks, shows and records what they report.
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "allreduce/shm_communicator.h"
#include "cluster/launcher.h"
#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/cli/cli.h"
#include "trainer/config/batch_equation.h"
#include "trainer/job_plan.h"
#include "trainer/report/environment.h"
#include "trainer/report/recorder.h"
#include "trainer/report/result.h"
#include "trainer/report/run_directory.h"
#include "trainer/start_state.h"
#include "trainer/storage/directory_lock.h"
#include "trainer/storage/posix_storage.h"
#include "trainer/training_job.h"
#include "trainer/version.h"

namespace dtrain {
namespace {

constexpr int64_t kRanksMax = 64;

LogLevel LevelOf(std::string_view word) {
  return word == "debug" ? LogLevel::kDebug : word == "warning" ? LogLevel::kWarning : word == "error" ? LogLevel::kError : LogLevel::kInfo;
}

// Whether the number of ranks fits the configuration; what needs the data is the ranks' matter.
Status CheckRanks(const Config& config, int64_t ranks) {
  RETURN_IF_ERROR(PlanBatch(BatchRequestOf(config.values), ranks).status());
  if (ranks > 1 && config.values.String("strategy.type", "auto") == "local") {
    return WithExitCode(InvalidArgument("strategy.type: found local, which is one process, with -n ", ranks, "; expected ring or auto"),
                        ExitCode::kConfiguration);
  }
  return OkStatus();
}

// Moves an earlier run of the name aside: --fresh starts anew, and loses nothing.
StatusOr<std::string> MoveAside(const std::string& directory) {
  for (int number = 1; number < 10'000; ++number) {
    const std::string aside = Cat(directory, ".before-", number);
    std::error_code error;
    if (std::filesystem::exists(aside, error)) continue;
    RETURN_IF_ERROR(PosixStorage().Rename(directory, aside));
    return aside;
  }
  return ResourceExhausted("move ", directory, " aside for --fresh: there are too many earlier runs of that name");
}

// OK if what the run in `directory` began with may go on as `config` says.
Status CheckResumable(const RunDirectory& directory, const Config& config) {
  ASSIGN_OR_RETURN(const auto checkpoints, CheckpointStore(PosixStorage(), directory.path(), {}).List());
  if (checkpoints.empty()) return OkStatus();
  const auto saved = LoadConfig(directory.resolved(), {});
  if (!saved.ok()) return OkStatus();  // the checkpoint's own tensors and data are still checked
  const auto differences = ResumeDifferences(saved->values, config.values);
  if (differences.empty()) return OkStatus();
  return WithExitCode(WithHint(FailedPrecondition("go on with the run in ", directory.path(),
                                                  ": the configuration is not what it began with\n  ", Join(differences, "\n  ")),
                               "use another name (run.name=...), or start anew with --fresh"),
                      ExitCode::kConfiguration);
}

// The result of a run that is finished and that `config` would not prolong; null otherwise.
StatusOr<Value> FinishedResult(const RunDirectory& directory, const Config& config) {
  ASSIGN_OR_RETURN(const bool finished, IsFinished(PosixStorage(), directory));
  if (!finished) return Value();
  const auto saved = LoadConfig(directory.resolved(), {});
  if (!saved.ok() || !(saved->values.At("train.duration") == config.values.At("train.duration"))) return Value();
  return ReadResult(PosixStorage(), directory.result());
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

}  // namespace

StatusOr<ExitCode> TrainVerb(const Arguments& arguments, const VerbSpec& spec, const std::string& rank_program) {
  ASSIGN_OR_RETURN(const int64_t ranks, arguments.Int("ranks", 1, 1, kRanksMax));
  ASSIGN_OR_RETURN(const Config config, ConfigOf(arguments, spec, 0));
  RETURN_IF_ERROR(CheckRanks(config, ranks));
  const RunDirectory directory(Cat(config.values.String("run.dir", "runs"), "/", config.name));
  if (access(rank_program.c_str(), X_OK) != 0) {
    return WithExitCode(
        WithHint(NotFound("start ranks: ", rank_program, " is not there"), "build it, or run dtrain through scripts/dtrain"),
        ExitCode::kSetUp);
  }

  TrainingJob job{.config = config.values,
                  .config_hash = ConfigHash(config),
                  .run_directory = directory.path(),
                  .fresh = arguments.Has("fresh"),
                  .dry_run = arguments.Has("dry-run"),
                  .init_from = arguments.Get("init-from")};
  auto names = ParseNameMap(arguments.Get("init-names"));
  if (!names.ok()) return WithExitCode(names.status(), ExitCode::kUsage);
  job.init_names = *std::move(names);

  LaunchOptions launch;
  launch.command = {rank_program};
  launch.ranks = static_cast<int>(ranks);
  launch.environment = {Cat("OMP_NUM_THREADS=", ConfiguredThreads(config.values, static_cast<int>(ranks)))};
  launch.run_directory = directory.path();
  launch.deadline = FromSeconds(config.values.Double("strategy.deadline", 5));
  launch.stall = FromSeconds(config.values.Double("strategy.stall", 600));
  if (ranks > 1) {
    ASSIGN_OR_RETURN(launch.segment_fd, ShmCommunicator::MakeSegment());
  }
  launch.job_description = job.ToValue().ToJson();
  if (job.dry_run) return DryRun(std::move(launch), arguments);

  RETURN_IF_ERROR(PosixStorage().CreateDirectories(directory.path()));
  auto lock = DirectoryLock::Acquire(directory.path());
  if (!lock.ok()) return WithExitCode(lock.status(), ExitCode::kSetUp);
  if (arguments.Has("fresh")) {
    std::error_code error;
    if (std::filesystem::exists(directory.resolved(), error)) {
      ASSIGN_OR_RETURN(const std::string aside, MoveAside(directory.path()));
      if (!arguments.quiet() && !arguments.json()) Print(Cat("the earlier run of this name is now ", aside, "\n"));
      RETURN_IF_ERROR(PosixStorage().CreateDirectories(directory.path()));
      lock = DirectoryLock::Acquire(directory.path());
      if (!lock.ok()) return WithExitCode(lock.status(), ExitCode::kSetUp);
    }
  } else {
    const std::string init_from = arguments.Get("init-from");
    ASSIGN_OR_RETURN(const auto checkpoints, CheckpointStore(PosixStorage(), directory.path(), {}).List());
    if (!init_from.empty() && !checkpoints.empty()) {
      return WithExitCode(
          WithHint(FailedPrecondition("start from ", init_from, ": ", directory.path(), " has checkpoints of its own to go on from"),
                   "use another name (run.name=...), or --fresh as well"),
          ExitCode::kUsage);
    }
    RETURN_IF_ERROR(CheckResumable(directory, config));
    ASSIGN_OR_RETURN(const Value result, FinishedResult(directory, config));
    if (!result.is_null()) {
      if (arguments.json()) {
        Print(result.ToJson() + "\n");
      } else if (!arguments.quiet()) {
        Print(Cat(directory.path(), " is finished already.\n", EndSummary(result, {directory.path(), arguments.words()[0], ranks}, {})));
      }
      return ExitCode::kDone;
    }
  }
  const std::vector<std::string> command_line = [&] {
    std::vector<std::string> words = {"dtrain", "train"};
    words.insert(words.end(), arguments.words().begin(), arguments.words().end());
    words.insert(words.end(), arguments.overrides().begin(), arguments.overrides().end());
    words.insert(words.end(), {"-n", Cat(ranks)});
    return words;
  }();
  RETURN_IF_ERROR(directory.Create(PosixStorage(), config.source_text, ToYaml(config, false),
                                   DescribeEnvironment(kVersion, SystemClock().WallSeconds(), command_line)));

  RecorderOptions record{.directory = directory, .console = ChooseConsole(config.values.String("log.console", "auto"), STDOUT_FILENO)};
  record.console.level = arguments.verbose() ? LogLevel::kDebug : LevelOf(config.values.String("log.level", "info"));
  record.console.quiet = arguments.quiet() || arguments.json();
  record.jsonl = config.values.Bool("log.jsonl", true);
  record.tensorboard = config.values.Bool("log.tensorboard", true);
  record.config = arguments.words()[0];
  record.ranks = ranks;
  record.width = [] { return TerminalWidth(STDOUT_FILENO); };
  Recorder recorder(std::move(record), PosixStorage(), SystemClock(), [to = arguments.json() ? stderr : stdout](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), to);
    std::fflush(to);
  });
  launch.on_event = [&](int rank, const std::string& event) {
    if (rank == 0) recorder.OnEvent(event);
  };
  launch.on_output = [&](std::string_view line) { recorder.OnOutput(line); };
  launch.on_notice = [&](const std::string& text) {
    Value event = Value::Map();
    event.Set("event", "note");
    event.Set("text", text);
    recorder.OnEvent(event.ToJson());
  };
  launch.on_tick = [&] { recorder.OnTick(); };
  launch.on_query = [&](const std::string&) { return recorder.StatusAnswer(); };
  JobOutcome outcome{.code = ExitCode::kSetUp};
  if (auto launcher = Launcher::Start(launch); launcher.ok()) {
    outcome = (*launcher)->Run();
  } else {
    outcome.status = launcher.status();
  }
  if (launch.segment_fd >= 0) close(launch.segment_fd);
  const ExitCode code = recorder.Finish(outcome.code, outcome.status);
  if (arguments.json()) {
    if (const auto result = ReadResult(PosixStorage(), directory.result()); result.ok()) Print(result->ToJson() + "\n");
  }
  return code;
}

}  // namespace dtrain
