// Verbs about runs: status, runs, save, stop.
#include <unistd.h>

#include <cstdlib>

#include "cluster/job_client.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/cli/cli.h"
#include "trainer/report/console.h"
#include "trainer/report/layout.h"
#include "trainer/report/result.h"
#include "trainer/report/run_status.h"
#include "trainer/report/whole_file.h"
#include "trainer/report/why.h"
#include "trainer/storage/posix_storage.h"

namespace dtrain {
namespace {

constexpr Duration kAskLimit = std::chrono::seconds(5);
constexpr int64_t kTraceBytesMax = 512 << 20;

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

StatusOr<ExitCode> StatusVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram&) {
  ASSIGN_OR_RETURN(const std::string run, RunOf(arguments, spec, 0));
  ASSIGN_OR_RETURN(std::optional<Value> status, AskStatus(run));
  if (!status) {
    ASSIGN_OR_RETURN(status, StatusOfRun(PosixStorage(), RunDirectory(run), false));
  }
  Print(arguments.json() ? status->ToJson() + "\n" : RenderStatus(*status, SystemClock().WallSeconds(), StyleOfOutput()));
  return ExitCode::kDone;
}

StatusOr<ExitCode> RunsVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram&) {
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

StatusOr<ExitCode> WhyVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram&) {
  ASSIGN_OR_RETURN(const std::string run, RunOf(arguments, spec, 0));
  const RunDirectory directory(run);
  Value result;
  auto read = ReadResult(PosixStorage(), directory.result());
  if (read.ok()) result = *std::move(read);
  std::optional<TimelineFacts> timeline;
  const auto text = ReadWholeFile(PosixStorage(), directory.trace(), kTraceBytesMax);
  if (text.ok()) {
    ASSIGN_OR_RETURN(const Value trace, ParseJson(*text, {.bytes_max = kTraceBytesMax}));
    ASSIGN_OR_RETURN(timeline, ReadTimeline(trace));
  }
  const auto lines = ExplainRun(result, timeline ? &*timeline : nullptr);
  if (lines.empty()) {
    return WithHint(NotFound("say why ", run, " is as fast as it is: it has neither a result nor a timeline"),
                    "let it finish, or train with log.trace.steps=[20,30]");
  }
  if (arguments.json()) {
    Print(Value(Value::List(lines.begin(), lines.end())).ToJson() + "\n");
  } else {
    for (const std::string& line : lines) Print(Join(Wrap(line, StyleOfOutput().width), "\n  ") + "\n");
    if (!timeline) Print("No timeline was recorded; log.trace.steps=[20,30] records one, and then this says who waits for whom.\n");
  }
  return ExitCode::kDone;
}

StatusOr<ExitCode> SaveVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram&) {
  return Ask(arguments, spec, "save", "a checkpoint is asked for; it is written at the end of the step");
}

StatusOr<ExitCode> StopVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram&) {
  return Ask(arguments, spec, "stop", "asked to save and end; the same train command goes on later");
}

}  // namespace dtrain
