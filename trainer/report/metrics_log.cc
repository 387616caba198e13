#include "trainer/report/metrics_log.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/report/fields.h"
#include "trainer/report/whole_file.h"

namespace dtrain {
namespace {

constexpr uint64_t kBytesMax = uint64_t{1} << 30;

}  // namespace

StatusOr<MetricsLog> MetricsLog::Open(Storage& storage, std::string path, Step resumed_from, bool fresh) {
  MetricsLog log(storage, std::move(path));
  if (fresh) {
    ASSIGN_OR_RETURN(log.file_, storage.Create(log.path_));
  } else {
    RETURN_IF_ERROR(log.Rewind(resumed_from, ""));
  }
  return log;
}

Status MetricsLog::Rewind(Step last, const std::string& event) {
  file_ = nullptr;
  last_step_.clear();
  ASSIGN_OR_RETURN(const bool exists, storage_->Exists(path_));
  std::string text;
  if (exists) {
    ASSIGN_OR_RETURN(text, ReadWholeFile(*storage_, path_, kBytesMax));
  }
  std::string kept;
  int64_t unreadable = 0;
  std::string_view rest = text;
  for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
    const std::string_view line = rest.substr(0, end);
    const auto value = ParseJson(line);
    const auto step = value.ok() ? IntAt(*value, "step") : std::nullopt;
    if (!step) {
      ++unreadable;
      continue;
    }
    const std::string line_event = TextAt(*value, "event");
    if (*step > last || (*step == last && line_event == event)) continue;
    kept.append(line).append(1, '\n');
    Step& newest = last_step_.try_emplace(line_event, *step).first->second;
    newest = std::max(newest, *step);
  }
  if (unreadable > 0) Log(LogLevel::kWarning, Cat(path_, ": ", unreadable, " lines are no metrics, they were removed"));
  if (kept != text) RETURN_IF_ERROR(ReplaceFile(*storage_, path_, kept));
  ASSIGN_OR_RETURN(file_, storage_->OpenAppend(path_));
  return OkStatus();
}

Status MetricsLog::Append(const Value& line) {
  const std::string event = TextAt(line, "event");
  const auto step = IntAt(line, "step");
  if (event.empty() || !step) return InvalidArgument("append to ", path_, ": a line without event or step: ", line.ToJson());
  const auto newest = last_step_.find(event);
  if (newest != last_step_.end() && *step <= newest->second) {
    RETURN_IF_ERROR(Rewind(*step, event));
  } else if (file_ == nullptr) {
    RETURN_IF_ERROR(Rewind(std::numeric_limits<Step>::max(), ""));
  }
  const std::string text = line.ToJson() + "\n";
  if (Status status = file_->Append(std::as_bytes(std::span(text))); !status.ok()) {
    file_ = nullptr;
    return status;
  }
  last_step_[event] = *step;
  return OkStatus();
}

Status MetricsLog::Sync() { return file_ == nullptr ? OkStatus() : file_->Sync(); }

}  // namespace dtrain
