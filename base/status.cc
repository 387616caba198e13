#include "base/status.h"

#include <charconv>
#include <string>

#include "absl/strings/cord.h"

namespace dtrain {
namespace {

constexpr const char* kExitCodeUrl = "dtrain/exit-code";

Status WithMessage(const Status& status, const std::string& message) {
  Status changed(status.code(), message);
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { changed.SetPayload(url, payload); });
  return changed;
}

}  // namespace

std::string Message(const Status& status) { return std::string(status.message()); }

Status WithHint(const Status& status, std::string_view hint) {
  if (status.ok() || hint.empty()) return status;
  return WithMessage(status, Cat(Message(status), "\n  Hint: ", hint));
}

Status Annotate(const Status& status, std::string_view what) {
  if (status.ok()) return status;
  return WithMessage(status, Cat(what, ": ", Message(status)));
}

Status WithExitCode(const Status& status, ExitCode code) {
  if (status.ok()) return status;
  Status changed = status;
  changed.SetPayload(kExitCodeUrl, absl::Cord(Cat(static_cast<int>(code))));
  return changed;
}

ExitCode ExitCodeOf(const Status& status, ExitCode otherwise) {
  if (status.ok()) return ExitCode::kDone;
  const auto payload = status.GetPayload(kExitCodeUrl);
  if (!payload.has_value()) return otherwise;
  const std::string text(*payload);
  int code = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), code);
  return result.ec == std::errc() ? static_cast<ExitCode>(code) : otherwise;
}

}  // namespace dtrain
