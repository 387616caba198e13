#include "trainer/report/run_status.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <optional>
#include <utility>

#include "base/text.h"
#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/report/fields.h"
#include "trainer/report/result.h"
#include "trainer/report/tables.h"
#include "trainer/report/whole_file.h"

namespace dtrain {
namespace {

constexpr size_t kNameColumnsMin = 12;

// The last line of each event in metrics.jsonl.
std::map<std::string, Value> LastLines(const Storage& storage, const RunDirectory& directory) {
  std::map<std::string, Value> last;
  const auto text = ReadLastLines(storage, directory.metrics());
  if (!text.ok()) return last;
  for (const std::string& line : Split(*text, '\n')) {
    auto value = ParseJson(line);
    if (!value.ok()) continue;
    if (const std::string event = TextAt(*value, "event"); !event.empty()) last[event] = *std::move(value);
  }
  return last;
}

std::optional<double> StartedAt(const Storage& storage, const RunDirectory& directory) {
  const auto text = ReadWholeFile(storage, directory.env(), 1 << 20);
  if (!text.ok()) return std::nullopt;
  const auto value = ParseJson(*text);
  return value.ok() ? NumberAt(*value, "started_at") : std::nullopt;
}

bool IsRunDirectory(const Storage& storage, const RunDirectory& directory) {
  return std::ranges::any_of(std::array{directory.config(), directory.result(), directory.metrics()}, [&](const std::string& path) {
    const auto exists = storage.Exists(path);
    return exists.ok() && *exists;
  });
}

std::string LocalTime(double seconds) {
  // Years 1970 to 9999: beyond them the text would have another width.
  if (!(seconds >= 0 && seconds < 253'402'300'000.0)) return "";
  const auto whole = static_cast<std::time_t>(seconds);
  std::tm parts = {};
  char text[32] = {};
  if (::localtime_r(&whole, &parts) == nullptr || std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts) == 0) return "";
  return text;
}

// "40 s", "3 min", "2 h", "5 d": the age of a run, where more digits say nothing.
std::string AgeText(double seconds) {
  seconds = std::clamp(seconds, 0.0, 1e12);
  constexpr std::array<std::pair<double, std::string_view>, 3> kUnits = {{{86'400, "d"}, {3'600, "h"}, {60, "min"}}};
  for (const auto& [unit, name] : kUnits) {
    if (seconds >= unit) return Cat(static_cast<int64_t>(seconds / unit), " ", name);
  }
  return Cat(static_cast<int64_t>(seconds), " s");
}

std::string OfTotal(const Value& status) {
  const auto step = IntAt(status, "step"), total = IntAt(status, "total_steps");
  return step ? Cat(WithCommas(*step), total ? Cat("/", WithCommas(*total)) : "") : "";
}

std::string Coloured(std::string_view status, std::string_view text, const TextStyle& style) {
  if (status == "done") return style.Green(text);
  if (status == "failed" || status == "diverged" || status == "damaged") return style.Red(text);
  if (status == "stopped" || status == "interrupted") return style.Yellow(text);
  return std::string(text);
}

}  // namespace

Value::List CheckpointsOf(Storage& storage, const RunDirectory& directory) {
  Value::List list;
  const auto checkpoints = CheckpointStore(storage, directory.path(), RetentionPolicy()).List();
  if (!checkpoints.ok()) return list;
  for (const CheckpointInfo& info : *checkpoints) {
    list.emplace_back(Value::Map{{"step", info.step},
                                 {"path", info.path},
                                 {"bytes", static_cast<int64_t>(info.bytes)},
                                 {"damage", info.complete() ? Value() : Value(info.damage)}});
  }
  return list;
}

StatusOr<Value> StatusOfRun(Storage& storage, const RunDirectory& directory, bool running) {
  if (!IsRunDirectory(storage, directory)) {
    return WithHint(NotFound("look at the run ", directory.path(), ": found neither config.yaml nor result.json nor metrics.jsonl there"),
                    "`dtrain runs` lists the runs there are");
  }
  auto last = LastLines(storage, directory);
  const Value& progress = last["progress"];
  Value::Map status;
  status["name"] = directory.name();
  status["directory"] = directory.path();
  status["status"] = running ? "running" : "interrupted";
  for (const char* key : {"step", "epoch", "loss", "learning_rate", "samples_per_s", "elapsed_s"}) status[key] = progress.At(key);
  for (const char* key : {"damage", "total_steps", "eta_s", "parameter_hash", "error"}) status[key] = Value();
  status["phases"] = MapAt(progress, "phases");
  status["metrics"] = MapAt(last["evaluation"], "metrics");
  std::optional<double> at = StartedAt(storage, directory);
  for (const auto& [event, line] : last) {
    if (const auto time = NumberAt(line, "time")) at = std::max(at.value_or(0), *time);
  }

  Value::List checkpoints = CheckpointsOf(storage, directory);
  status["checkpoint"] = Value();
  for (const Value& checkpoint : checkpoints) {
    if (checkpoint.At("damage").is_null()) status["checkpoint"] = checkpoint.At("path");
  }
  status["checkpoints"] = std::move(checkpoints);

  const auto result = ReadResult(storage, directory.result());
  if (result.ok() && !running) {
    status["status"] = TextAt(*result, "status");
    status["step"] = result->At("steps");
    status["samples_per_s"] = result->At("samples_per_s");
    status["elapsed_s"] = result->At("train_s");
    for (const char* key : {"phases", "metrics", "parameter_hash", "error"}) status[key] = result->At(key);
    if (const auto time = NumberAt(*result, "finished_at")) at = time;
  } else if (!result.ok() && !absl::IsNotFound(result.status()) && !running) {
    status["status"] = "damaged";
    status["damage"] = Message(result.status());
  }
  status["at"] = at ? Value(*at) : Value();
  return Value(std::move(status));
}

StatusOr<std::vector<Value>> ListRuns(Storage& storage, const std::string& runs, const IsRunning& is_running) {
  const auto names = storage.List(runs);
  if (absl::IsNotFound(names.status())) return std::vector<Value>();
  if (!names.ok()) return names.status();
  std::vector<Value> list;
  for (const std::string& name : *names) {
    if (name.starts_with('.')) continue;
    const RunDirectory directory(Cat(runs, "/", name));
    const bool is_run = IsRunDirectory(storage, directory);
    if (!is_run) continue;
    auto status = StatusOfRun(storage, directory, is_running && is_running(directory));
    if (status.ok()) list.push_back(*std::move(status));
  }
  return list;
}

std::string HeadlineMetric(const Value::Map& metrics) {
  const auto text = [](std::string_view name, const Value& value) {
    const auto number = NumberAt(value, "");
    if (name.starts_with("valid_")) name.remove_prefix(6);
    return Cat(Printable(name), " ", number ? MetricText(*number) : "nan");
  };
  for (const char* name : {"valid_accuracy", "valid_loss"}) {
    if (const auto entry = metrics.find(name); entry != metrics.end()) return text(name, entry->second);
  }
  return metrics.empty() ? "" : text(metrics.begin()->first, metrics.begin()->second);
}

std::string RenderRuns(const std::vector<Value>& runs, double now, const TextStyle& style) {
  if (runs.empty()) return "no runs\n";
  using Row = std::array<std::string, 6>;
  std::vector<Row> rows = {{"NAME", "STATUS", "STEPS", "METRIC", "WHEN", "AGE"}};
  for (const Value& run : runs) {
    const auto at = NumberAt(run, "at");
    const auto step = IntAt(run, "step");
    rows.push_back({Printable(TextAt(run, "name")), TextAt(run, "status"), step ? WithCommas(*step) : "-",
                    HeadlineMetric(MapAt(run, "metrics")), at ? LocalTime(*at) : "-", at ? AgeText(now - *at) : "-"});
  }
  std::array<size_t, 6> columns = {};
  size_t total = 2 * (columns.size() - 1);
  for (size_t c = 0; c < columns.size(); ++c) {
    for (const Row& row : rows) columns[c] = std::max(columns[c], Columns(row[c]));
    total += columns[c];
  }
  // What is too wide comes off the names first, then off the metrics.
  const size_t width = style.width <= 0 ? total : static_cast<size_t>(style.width);
  for (const size_t c : {0, 3}) {
    const size_t cut = std::min(total - std::min(total, width), columns[c] - std::min(columns[c], kNameColumnsMin));
    columns[c] -= cut;
    total -= cut;
  }
  std::string out;
  for (const Row& row : rows) {
    std::string line;
    for (size_t c = 0; c < columns.size(); ++c) {
      const std::string cell = Clip(row[c], columns[c]);
      const std::string padded = c == 2 ? PadLeft(cell, columns[c]) : c + 1 == columns.size() ? cell : Pad(cell, columns[c]);
      line += Cat(c == 0 ? "" : "  ", &row == &rows.front() ? style.Bold(padded) : c == 1 ? Coloured(row[1], padded, style) : padded);
    }
    out += line + "\n";
  }
  return out;
}

std::string RenderStatus(const Value& status, double now, const TextStyle& style) {
  const std::string word = TextAt(status, "status");
  const auto at = NumberAt(status, "at"), epoch = NumberAt(status, "epoch"), loss = NumberAt(status, "loss"),
             rate = NumberAt(status, "learning_rate"), samples_per_s = NumberAt(status, "samples_per_s"),
             elapsed_s = NumberAt(status, "elapsed_s"), eta_s = NumberAt(status, "eta_s");
  const bool known = IntAt(status, "step").has_value();
  std::vector<TableRow> rows = {
      {"Files", TextAt(status, "directory"), false},
      {"Step", Cat(OfTotal(status), known && epoch ? Cat(", epoch ", Fixed(*epoch, 2)) : "")},
      {"Loss", loss ? Cat(MetricText(*loss), rate ? Cat(", learning rate ", ShortNumber(*rate)) : "") : ""},
      {"Metrics", MetricsLine(MapAt(status, "metrics"))},
      {"Time", elapsed_s ? Cat(SecondsText(*elapsed_s), eta_s ? Cat(", ", SecondsText(*eta_s), " to go") : "") : ""},
      {"Throughput",
       samples_per_s && *samples_per_s > 0 ? Cat(WithCommas(static_cast<int64_t>(std::min(*samples_per_s, 1e15))), " samples/s") : ""},
      {"Time went to", PhaseLine(MapAt(status, "phases"))},
      {"Parameters", TextAt(status, "parameter_hash")},
      {"Error", TextAt(status, "error")},
      {"Damage", TextAt(status, "damage")},
      {"Last news", at ? Cat(LocalTime(*at), ", ", AgeText(now - *at), " ago") : ""}};
  for (const Value& checkpoint : ListAt(status, "checkpoints")) {
    const std::string damage = TextAt(checkpoint, "damage");
    const std::string size = HumanBytes(NumberAt(checkpoint, "bytes").value_or(0));
    rows.push_back({"Checkpoint", Cat(TextAt(checkpoint, "path"), ", ", damage.empty() ? size : Cat("damaged: ", damage))});
  }
  return Cat(style.Bold(Printable(TextAt(status, "name"))), ": ", Coloured(word, word, style), "\n", TwoColumns(rows, style));
}

}  // namespace dtrain
