// The launcher's side of a run: takes rank 0's events and the ranks' output, shows them (console.h) and keeps them
// (metrics_log.h, tensorboard.h, result.h). A file that cannot be written costs a warning, never the run.
// Calls may come from any thread; `write` is called under a lock, never at the same time twice.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "base/storage.h"
#include "base/value.h"
#include "trainer/report/console.h"
#include "trainer/report/metrics_log.h"
#include "trainer/report/run_directory.h"
#include "trainer/report/tensorboard.h"

namespace dtrain {

struct RecorderOptions {
  RunDirectory directory;
  ConsoleOptions console;
  bool jsonl = true;
  bool tensorboard = true;
  std::string config;  // path of the configuration file, for the commands that are suggested
  int64_t ranks = 1;
  std::function<int()> width;  // of the terminal now; asked at each tick; may be empty
};

class Recorder {
 public:
  using Write = std::function<void(std::string_view text)>;

  // Touches no file before the first start event. `storage` and `clock` outlive the recorder.
  Recorder(RecorderOptions options, Storage& storage, const Clock& clock, Write write);

  // One JSON map of rank 0. What cannot be read is a warning. The start event opens the files and removes an older
  // result.json: while a run goes there is none.
  void OnEvent(const std::string& json);
  void OnOutput(std::string_view line);  // of a rank, without its newline
  void OnTick();                         // a few times a second

  // The job is over: writes result.json, prints the end summary or the error, says what to do next. Returns the code to exit
  // with: `code`, but kRankFailed in place of kDone if rank 0 never said how it ended or the result could not be
  // written. If no start event came and there is an older result.json, that stays: nothing was trained.
  ExitCode Finish(ExitCode code, const Status& why);

  // The run as it is now, for `dtrain status`: one line of JSON with the keys of StatusOfRun (run_status.h).
  std::string StatusAnswer() const;

 private:
  void Emit(std::string_view text);
  void Warn(std::string_view message);
  void OpenFiles();
  void Record(const Value& event);
  void RecordScalars(const Value& event, Step step);
  Value Facts() const;

  const RecorderOptions options_;
  Storage& storage_;
  const Clock& clock_;
  const Write write_;

  mutable std::mutex mutex_;
  Console console_;
  Value start_, progress_, evaluation_, checkpoint_, end_;
  std::optional<MetricsLog> metrics_log_;
  std::optional<TensorboardWriter> tensorboard_;
  bool metrics_log_failed_ = false;  // said once for each stretch of failures
  int bad_events_ = 0;
  bool finished_ = false;
};

}  // namespace dtrain
