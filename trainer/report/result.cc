#include "trainer/report/result.h"

#include <algorithm>
#include <array>

#include "trainer/checkpoint/json_value.h"
#include "trainer/report/fields.h"
#include "trainer/report/whole_file.h"

namespace dtrain {
namespace {

constexpr std::array<std::string_view, 5> kIntegers = {"exit_code", "steps", "updates", "samples", "world_size"};
constexpr std::array<std::string_view, 2> kNumbers = {"train_s", "samples_per_s"};
constexpr std::array<std::string_view, 2> kMaps = {"phases", "metrics"};
constexpr std::array<std::string_view, 4> kTexts = {"parameter_hash", "checkpoints.last", "checkpoints.best", "error"};
constexpr std::array<std::string_view, 4> kStatuses = {"done", "stopped", "failed", "diverged"};

bool IsNumber(const Value& value) { return value.if_double() != nullptr || value.if_int() != nullptr; }

// At gives null for an absent key too; the contract wants the key itself.
bool Has(const Value& value, std::string_view path) {
  const size_t dot = path.rfind('.');
  const bool top = dot == std::string_view::npos;
  const Value::Map& map = MapAt(value, top ? std::string_view() : path.substr(0, dot));
  return map.contains(top ? path : path.substr(dot + 1));
}

Status Wrong(std::string_view key, const Value& found, std::string_view expected) {
  return DataLoss("key ", key, ": found ", found.ToJson(), ", expected ", expected);
}

}  // namespace

std::string_view ResultStatus(ExitCode code) {
  switch (code) {
    case ExitCode::kDone:
      return "done";
    case ExitCode::kStopped:
    case ExitCode::kInterrupted:
      return "stopped";
    case ExitCode::kDiverged:
      return "diverged";
    default:
      return "failed";
  }
}

Value MakeResult(const Value& facts, ExitCode code, std::string_view error) {
  Value result = Value::Map();
  for (const std::string_view key : kIntegers) result.Set(key, std::max<int64_t>(0, IntAt(facts, key).value_or(0)));
  for (const std::string_view key : kNumbers) result.Set(key, std::max(0.0, NumberAt(facts, key).value_or(0)));
  for (const std::string_view key : kMaps) {
    Value::Map entries;
    for (const auto& [name, value] : MapAt(facts, key)) {
      if (IsNumber(value) || (value.is_null() && key == "metrics")) entries[name] = value;
    }
    result.Set(key, std::move(entries));
  }
  for (const std::string_view key : kTexts) {
    const std::string text = TextAt(facts, key);
    result.Set(key, text.empty() ? Value() : Value(text));
  }
  result.Set("status", std::string(ResultStatus(code)));
  result.Set("exit_code", static_cast<int64_t>(code));
  result.Set("error", error.empty() ? Value() : Value(std::string(error)));
  return result;
}

Status CheckResult(const Value& result) {
  if (result.if_map() == nullptr) return DataLoss("found ", result.ToJson(), ", expected a map");
  const std::string status = TextAt(result, "status");
  if (std::find(kStatuses.begin(), kStatuses.end(), status) == kStatuses.end()) {
    return Wrong("status", result.At("status"), "done, stopped, failed or diverged");
  }
  for (const std::string_view key : kIntegers) {
    if (IntAt(result, key).value_or(-1) < 0) return Wrong(key, result.At(key), "an integer of at least 0");
  }
  for (const std::string_view key : kNumbers) {
    if (!(NumberAt(result, key).value_or(-1) >= 0)) return Wrong(key, result.At(key), "a number of at least 0");
  }
  for (const std::string_view key : kMaps) {
    if (result.At(key).if_map() == nullptr) return Wrong(key, result.At(key), "a map of numbers");
    for (const auto& [name, value] : MapAt(result, key)) {
      if (!IsNumber(value) && !(value.is_null() && key == "metrics")) return Wrong(Cat(key, ".", name), value, "a number");
    }
  }
  for (const std::string_view key : kTexts) {
    if (!Has(result, key)) return DataLoss("key ", key, " is missing");
    if (const Value& value = result.At(key); !value.is_null() && value.if_string() == nullptr) return Wrong(key, value, "text or null");
  }
  const bool done = status == "done";
  if (done != (IntAt(result, "exit_code") == 0)) return Wrong("exit_code", result.At("exit_code"), Cat("one that fits status ", status));
  return OkStatus();
}

Status WriteResult(Storage& storage, const std::string& path, const Value& result) {
  // What could not be read again (a text that is not UTF-8) must not be written either.
  const std::string text = result.ToJson() + "\n";
  Status status = ParseJson(text).status();
  if (status.ok()) status = CheckResult(result);
  if (!status.ok()) return InvalidArgument("write ", path, ": ", Message(status));
  return ReplaceFile(storage, path, text);
}

StatusOr<Value> ReadResult(const Storage& storage, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(storage, path));
  auto result = ParseJson(text);
  Status status = result.status();
  if (status.ok()) status = CheckResult(*result);
  if (!status.ok()) return DataLoss("read ", path, ": ", Message(status));
  return result;
}

}  // namespace dtrain
