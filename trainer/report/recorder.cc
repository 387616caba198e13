#include "trainer/report/recorder.h"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/text.h"
#include "cluster/handshake.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/report/environment.h"
#include "trainer/report/fields.h"
#include "trainer/report/result.h"
#include "trainer/report/run_status.h"

namespace dtrain {
namespace {

constexpr int64_t kEventBytesMax = 1 << 20;
constexpr int kBadEventsSaid = 3;  // a rank that sends only nonsense must not fill the screen

// "valid_accuracy" -> "valid/accuracy": TensorBoard groups charts by what stands before the slash.
std::string TagOf(const std::string& metric) {
  for (const std::string_view part : {"train_", "valid_", "test_"}) {
    if (metric.starts_with(part) && metric.size() > part.size()) {
      return Cat(part.substr(0, part.size() - 1), "/", metric.substr(part.size()));
    }
  }
  return Cat("metrics/", metric);
}

TensorboardWriter::Scalars ScalarsOf(const Value& event) {
  TensorboardWriter::Scalars scalars;
  const std::string kind = TextAt(event, "event");
  if (kind == "progress") {
    for (const std::string_view key : {"loss", "learning_rate", "samples_per_s", "gradient_norm", "epoch"}) {
      if (const auto number = NumberAt(event, key)) scalars.emplace_back(Cat("train/", key), *number);
    }
    for (const auto& [name, seconds] : MapAt(event, "phases")) {
      if (const auto number = NumberAt(seconds, "")) scalars.emplace_back(Cat("seconds/", name), *number);
    }
  } else if (kind == "evaluation") {
    for (const auto& [name, value] : MapAt(event, "metrics")) {
      if (const auto number = NumberAt(value, "")) scalars.emplace_back(TagOf(name), *number);
    }
  }
  return scalars;
}

}  // namespace

Recorder::Recorder(RecorderOptions options, Storage& storage, const Clock& clock, Write write)
    : options_(std::move(options)), storage_(storage), clock_(clock), write_(std::move(write)), console_(options_.console) {}

void Recorder::Emit(std::string_view text) {
  if (!text.empty()) write_(text);
}

void Recorder::Warn(std::string_view message) { Emit(console_.Say(LogLevel::kWarning, message)); }

void Recorder::OnEvent(const std::string& json) {
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  const auto event = ParseJson(json, {.bytes_max = kEventBytesMax});
  const std::string kind = event.ok() ? TextAt(*event, "event") : "";
  const bool has_step = kind == "progress" || kind == "evaluation" || kind == "checkpoint";
  if (kind.empty() || (has_step && IntAt(*event, "step").value_or(-1) < 0)) {
    if (++bad_events_ > kBadEventsSaid) return;
    Warn(Cat("rank 0 sent an event that says nothing: found ", Clip(Printable(json), 60),
             event.ok() ? ", expected a map with an event, and a step where it has one" : Cat(" (", Message(event.status()), ")"),
             bad_events_ == kBadEventsSaid ? "; more of these are not shown" : ""));
    return;
  }
  if (kind == "start") {
    start_ = *event;
    OpenFiles();
  }
  if (kind == "progress") progress_ = *event;
  if (kind == "evaluation") evaluation_ = *event;
  if (kind == "checkpoint") checkpoint_ = *event;
  if (kind == "end") end_ = *event;
  if (has_step) Record(*event);
  Emit(console_.OnEvent(*event, clock_.Now()));
}

void Recorder::OpenFiles() {
  auto resumed_from = IntAt(start_, "resumed_from");
  if (resumed_from) resumed_from = std::clamp<Step>(*resumed_from, 0, std::numeric_limits<Step>::max() - 1);  // + 1 follows
  if (const Status status = storage_.RemoveAll(options_.directory.result()); !status.ok()) Warn(Message(status));
  if (options_.jsonl) {
    auto log = MetricsLog::Open(storage_, options_.directory.metrics(), resumed_from.value_or(0), !resumed_from.has_value());
    if (log.ok()) {
      metrics_log_ = *std::move(log);
    } else {
      Warn(Cat("metrics.jsonl is not written: ", Message(log.status())));
    }
  }
  if (options_.tensorboard) {
    const double now = clock_.WallSeconds();
    const std::string path = options_.directory.In(EventFileName(now, HostName(), ::getpid()));
    auto writer = TensorboardWriter::Create(storage_, path, now, resumed_from ? *resumed_from + 1 : 0);
    if (writer.ok()) {
      tensorboard_ = *std::move(writer);
    } else {
      Warn(Cat("the TensorBoard file is not written: ", Message(writer.status())));
    }
  }
}

void Recorder::Record(const Value& event) {
  if (metrics_log_) {
    Value line = event;
    line.Set("time", clock_.WallSeconds());
    const Status status = metrics_log_->Append(line);
    if (!status.ok() && !metrics_log_failed_) Warn(Cat("metrics.jsonl lacks lines from here: ", Message(status)));
    metrics_log_failed_ = !status.ok();
  }
  const auto scalars = ScalarsOf(event);
  if (tensorboard_ && !scalars.empty()) {
    if (const Status status = tensorboard_->Write(clock_.WallSeconds(), *IntAt(event, "step"), scalars); !status.ok()) {
      Warn(Cat("the TensorBoard file ends here: ", Message(status)));
      tensorboard_.reset();
    }
  }
}

void Recorder::OnOutput(std::string_view line) {
  const std::lock_guard lock(mutex_);
  Emit(console_.Print(line));
}

void Recorder::OnTick() {
  const std::lock_guard lock(mutex_);
  if (options_.width) console_.SetWidth(options_.width());
  Emit(console_.Tick(clock_.Now()));
}

// What result.json says: rank 0's closing event, or what its last events said.
Value Recorder::Facts() const {
  Value facts = end_.is_null() ? Value(Value::Map()) : end_;
  const auto otherwise = [&](std::string_view key, const Value& value) {
    if (facts.At(key).is_null() && !value.is_null()) facts.Set(key, value);
  };
  otherwise("world_size", start_.At("ranks"));
  otherwise("metrics", evaluation_.At("metrics"));
  otherwise("checkpoints.last", checkpoint_.At("path"));
  if (!end_.is_null()) return facts;
  otherwise("steps", progress_.At("step"));
  otherwise("steps", start_.At("resumed_from"));
  otherwise("updates", facts.At("steps"));
  otherwise("samples", progress_.At("samples"));
  otherwise("train_s", progress_.At("elapsed_s"));
  otherwise("samples_per_s", progress_.At("samples_per_s"));
  otherwise("phases", progress_.At("phases"));
  return facts;
}

ExitCode Recorder::Finish(ExitCode code, const Status& why) {
  const std::lock_guard lock(mutex_);
  if (finished_) return code;
  finished_ = true;
  std::string error = code == ExitCode::kDone || code == ExitCode::kStopped ? "" : Message(why);
  if (code == ExitCode::kDone && end_.is_null()) {
    code = ExitCode::kRankFailed;
    error = "rank 0 ended without saying how the run ended";
  }
  Value result = MakeResult(Facts(), code, error);
  result.Set("finished_at", clock_.WallSeconds());
  result.Set("run", options_.directory.name());

  const bool started = !start_.is_null();
  const auto older = storage_.Exists(options_.directory.result());
  Status written;
  if (started || !older.ok() || !*older) {
    if (metrics_log_) written = metrics_log_->Sync();
    const Status status = WriteResult(storage_, options_.directory.result(), result);
    if (!status.ok()) written = status;
  }
  NextCommands next{.run_directory = options_.directory.path(), .config = options_.config, .ranks = options_.ranks};
  if (next.config.empty()) next.config = options_.directory.config();
  Emit(console_.End(started ? EndSummary(result, next, console_.options().style) : ""));
  if (!error.empty()) Emit(console_.Say(LogLevel::kError, error));
  if (!written.ok()) {
    Emit(console_.Say(LogLevel::kError, Cat("how the run ended could not be recorded: ", Message(written))));
    if (code == ExitCode::kDone) code = ExitCode::kRankFailed;
  }
  return code;
}

std::string Recorder::StatusAnswer() const {
  Value::List checkpoints = CheckpointsOf(storage_, options_.directory);
  const std::lock_guard lock(mutex_);
  Value::Map answer;
  answer["name"] = options_.directory.name();
  answer["directory"] = options_.directory.path();
  answer["status"] = "running";
  answer["damage"] = Value();
  for (const char* key : {"step", "epoch", "loss", "learning_rate", "samples_per_s", "elapsed_s"}) answer[key] = progress_.At(key);
  answer["total_steps"] = start_.At("total_steps");
  const auto eta_s = EtaSeconds(start_, progress_);
  answer["eta_s"] = eta_s ? Value(*eta_s) : Value();
  answer["phases"] = MapAt(progress_, "phases");
  answer["metrics"] = MapAt(evaluation_, "metrics");
  answer["checkpoint"] = checkpoint_.At("path");
  answer["checkpoints"] = std::move(checkpoints);
  answer["parameter_hash"] = Value();
  answer["error"] = Value();
  answer["at"] = clock_.WallSeconds();
  return Value(std::move(answer)).ToJson();
}

}  // namespace dtrain
