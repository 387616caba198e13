// Verbs about runs: status, runs, save, stop.
#include <unistd.h>

#include <cstdlib>

#include "cluster/job_client.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/cli/cli.h"
#include "trainer/report/console.h"
#include "trainer/report/run_status.h"
#include "trainer/storage/posix_storage.h"

namespace dtrain {
namespace {

constexpr Duration kAskLimit = std::chrono::seconds(5);

TextStyle StyleOfOutput() {
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  return {.width = terminal ? TerminalWidth(STDOUT_FILENO) : 100, .colours = terminal && std::getenv("NO_COLOR") == nullptr};
}

// What a running job says; nothing if none runs there.
StatusOr<std::optional<Value>> AskStatus(const std::string& run) {
  const auto answer = AskJob(run, "status", Deadline::In(kAskLimit));
  if (answer.status().code() == StatusCode::kFailedPrecondition) return std::optional<Value>();
  RETURN_IF_ERROR(answer.status());
  ASSIGN_OR_RETURN(Value status, ParseJson(*answer));
  return std::optional<Value>(std::move(status));
}

StatusOr<ExitCode> Ask(const Arguments& arguments, const VerbSpec& spec, const std::string& query, const std::string& said) {
  ASSIGN_OR_RETURN(const std::string run, RunOf(arguments, spec, 0));
  RETURN_IF_ERROR(AskJob(run, query, Deadline::In(kAskLimit)).status());
  if (arguments.json()) {
    Print("{\"asked\":\"" + query + "\"}\n");
  } else if (!arguments.quiet()) {
    Print(Cat(run, ": ", said, "\n"));
  }
  return ExitCode::kDone;
}

}  // namespace

StatusOr<ExitCode> StatusVerb(const Arguments& arguments, const VerbSpec& spec, const std::string&) {
  ASSIGN_OR_RETURN(const std::string run, RunOf(arguments, spec, 0));
  ASSIGN_OR_RETURN(std::optional<Value> status, AskStatus(run));
  if (!status) {
    ASSIGN_OR_RETURN(status, StatusOfRun(PosixStorage(), RunDirectory(run), false));
  }
  Print(arguments.json() ? status->ToJson() + "\n" : RenderStatus(*status, SystemClock().WallSeconds(), StyleOfOutput()));
  return ExitCode::kDone;
}

StatusOr<ExitCode> RunsVerb(const Arguments& arguments, const VerbSpec& spec, const std::string&) {
  if (arguments.words().size() > 1) return UsageError(spec, "expected at most one directory");
  const std::string directory = arguments.words().empty() ? "runs" : arguments.words()[0];
  ASSIGN_OR_RETURN(const auto runs, ListRuns(PosixStorage(), directory, [](const RunDirectory& run) {
                     const auto status = AskStatus(run.path());
                     return status.ok() && status->has_value();
                   }));
  if (arguments.json()) {
    Print(Value(Value::List(runs.begin(), runs.end())).ToJson() + "\n");
  } else {
    Print(RenderRuns(runs, SystemClock().WallSeconds(), StyleOfOutput()));
  }
  return ExitCode::kDone;
}

StatusOr<ExitCode> SaveVerb(const Arguments& arguments, const VerbSpec& spec, const std::string&) {
  return Ask(arguments, spec, "save", "a checkpoint is asked for; it is written at the end of the step");
}

StatusOr<ExitCode> StopVerb(const Arguments& arguments, const VerbSpec& spec, const std::string&) {
  return Ask(arguments, spec, "stop", "asked to save and end; the same train command goes on later");
}

}  // namespace dtrain
