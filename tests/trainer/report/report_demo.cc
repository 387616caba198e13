// Prints a run as a person sees it, with pauses where `live` is asked for: report_demo [live] [WIDTH].
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "tests/sim/manual_clock.h"
#include "tests/sim/sim_storage.h"
#include "tests/trainer/report/sample_events.h"
#include "trainer/report/recorder.h"
#include "trainer/report/run_status.h"

int main(int argc, char** argv) {
  using namespace dtrain;
  SimStorage storage;
  ManualClock clock;
  ConsoleOptions console;
  bool live = false;
  for (const std::string_view word : std::span(argv + 1, static_cast<size_t>(argc - 1))) {
    if (word == "live") live = true;
    if (const auto width = ParseInt(word)) console.style.width = static_cast<int>(*width);
  }
  if (live) console.mode = ConsoleMode::kLive;
  console.style.colours = live;
  const RunDirectory directory("runs/quickstart");
  if (!storage.CreateDirectories(directory.path()).ok()) return 1;
  const auto write = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  Recorder recorder({.directory = directory, .console = console, .config = "configs/quickstart.yaml", .ranks = 2}, storage, clock, write);
  recorder.OnEvent(SampleStart().ToJson());
  for (int64_t step = 20; step <= 1000; step += 20) {
    clock.Advance(std::chrono::milliseconds(800));
    if (live) ::usleep(30'000);
    recorder.OnEvent(SampleProgress(step).ToJson());
    if (step % 200 == 0) recorder.OnEvent(SampleEvaluation(step, 0.9 + static_cast<double>(step) / 13'846).ToJson());
    if (step % 500 == 0) recorder.OnEvent(SampleCheckpoint(step).ToJson());
    if (step == 300) recorder.OnOutput("[rank 1] a line of the user's own");
    if (step == 320) recorder.OnEvent(R"({"event": "warning", "text": "rank 1 has not advanced for 10 s\n  Hint: look at its log"})");
  }
  const Value running = [&] {
    Value status;
    status.Set("name", "other");
    status.Set("status", "running");
    status.Set("step", 120);
    status.Set("at", clock.WallSeconds());
    return status;
  }();
  recorder.OnEvent(SampleEnd(1000).ToJson());
  recorder.Finish(ExitCode::kDone, OkStatus());
  write("\n---- status\n");
  const auto status = StatusOfRun(storage, directory, false);
  if (!status.ok()) return 1;
  write(RenderStatus(*status, clock.WallSeconds() + 200, console.style));
  write("\n---- runs\n");
  write(RenderRuns({running, *status}, clock.WallSeconds() + 200, console.style));
  write("\n---- a failed run\n");
  Recorder failed({.directory = directory, .console = console, .config = "configs/quickstart.yaml", .ranks = 2}, storage, clock, write);
  failed.OnEvent(SampleStart().ToJson());
  failed.OnEvent(SampleProgress(120).ToJson());
  failed.OnEvent(SampleCheckpoint(100).ToJson());
  failed.Finish(ExitCode::kRankFailed,
                WithHint(Aborted("rank 1 died in step 121: killed by signal 9"), "look at runs/quickstart/logs/rank-1.log"));
}
