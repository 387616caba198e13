#include "trainer/cli/run_session.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/cli/cli.h"
#include "trainer/report/environment.h"
#include "trainer/report/result.h"
#include "trainer/storage/posix_storage.h"
#include "trainer/version.h"

namespace dtrain {
namespace {

LogLevel LevelOf(std::string_view word) {
  return word == "debug" ? LogLevel::kDebug : word == "warning" ? LogLevel::kWarning : word == "error" ? LogLevel::kError : LogLevel::kInfo;
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

}  // namespace

std::string RunDirectoryOf(const Config& config) { return Cat(config.values.String("run.dir", "runs"), "/", config.name); }

RunSession::RunSession(RunDirectory directory, DirectoryLock lock, bool json)
    : directory_(std::move(directory)), lock_(std::move(lock)), json_(json) {}

StatusOr<std::unique_ptr<RunSession>> RunSession::Open(const Arguments& arguments, const Config& config, std::optional<int> ranks) {
  const RunDirectory directory(RunDirectoryOf(config));
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
        Print(Cat(directory.path(), " is finished already.\n",
                  EndSummary(result, {directory.path(), arguments.words()[0], ranks.value_or(1)}, {})));
      }
      return std::unique_ptr<RunSession>();
    }
  }
  const std::vector<std::string> command_line = [&] {
    std::vector<std::string> words = {"dtrain", "train"};
    words.insert(words.end(), arguments.words().begin(), arguments.words().end());
    words.insert(words.end(), arguments.overrides().begin(), arguments.overrides().end());
    if (ranks) words.insert(words.end(), {"-n", Cat(*ranks)});
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
  record.ranks = ranks.value_or(1);
  record.width = [] { return TerminalWidth(STDOUT_FILENO); };
  std::unique_ptr<RunSession> session(new RunSession(directory, *std::move(lock), arguments.json()));
  session->recorder_ = std::make_unique<Recorder>(std::move(record), PosixStorage(), SystemClock(),
                                                  [to = arguments.json() ? stderr : stdout](std::string_view text) {
                                                    std::fwrite(text.data(), 1, text.size(), to);
                                                    std::fflush(to);
                                                  });
  return session;
}

void RunSession::Listen(JobOptions* options) {
  options->on_event = [this](int rank, const std::string& event) {
    if (rank == 0) recorder_->OnEvent(event);
  };
  options->on_notice = [this](LogLevel level, const std::string& text) {
    Value event = Value::Map();
    event.Set("event", level == LogLevel::kWarning ? "warning" : "note");
    event.Set("text", text);
    recorder_->OnEvent(event.ToJson());
  };
  options->on_tick = [this] { recorder_->OnTick(); };
  options->on_query = [this](const std::string&) { return recorder_->StatusAnswer(); };
}

ExitCode RunSession::Finish(const JobOutcome& outcome) {
  const ExitCode code = recorder_->Finish(outcome.code, outcome.status);
  if (json_) {
    if (const auto result = ReadResult(PosixStorage(), directory_.result()); result.ok()) Print(result->ToJson() + "\n");
  }
  return code;
}

}  // namespace dtrain
