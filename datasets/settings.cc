#include "datasets/settings.h"

#include <algorithm>
#include <cmath>

namespace dtrain {
namespace {

// The entry itself: keys have no dots, so At is a plain look-up.
Status Wrong(const Value& map, std::string_view where, const std::string& key, const std::string& expected) {
  return InvalidArgument(where, ".", key, ": found ", map.At(key).ToJson(), ", expected ", expected);
}

std::optional<double> FiniteNumber(const Value& value) {
  if (const auto* integer = value.if_int()) return static_cast<double>(*integer);
  if (const auto* number = value.if_double(); number != nullptr && std::isfinite(*number)) return *number;
  return std::nullopt;
}

}  // namespace

StatusOr<bool> BoolSetting(const Value& map, std::string_view where, const std::string& key, bool otherwise) {
  const Value& value = map.At(key);
  if (value.is_null()) return otherwise;
  if (value.if_bool() == nullptr) return Wrong(map, where, key, "true or false");
  return *value.if_bool();
}

StatusOr<int64_t> IntSetting(const Value& map, std::string_view where, const std::string& key, int64_t otherwise, int64_t min,
                             int64_t max) {
  const Value& value = map.At(key);
  if (value.is_null()) return otherwise;
  const auto* integer = value.if_int();
  if (integer == nullptr || *integer < min || *integer > max) return Wrong(map, where, key, Cat("an integer from ", min, " to ", max));
  return *integer;
}

StatusOr<double> NumberSetting(const Value& map, std::string_view where, const std::string& key, double otherwise, double min, double max) {
  const Value& value = map.At(key);
  if (value.is_null()) return otherwise;
  const auto number = FiniteNumber(value);
  if (!number || *number < min || *number > max) return Wrong(map, where, key, Cat("a number from ", min, " to ", max));
  return *number;
}

StatusOr<std::string> TextSetting(const Value& map, std::string_view where, const std::string& key, std::string_view otherwise) {
  const Value& value = map.At(key);
  if (value.is_null()) return std::string(otherwise);
  if (value.if_string() == nullptr) return Wrong(map, where, key, "a text");
  return *value.if_string();
}

StatusOr<std::vector<double>> NumbersSetting(const Value& map, std::string_view where, const std::string& key) {
  const Value& value = map.At(key);
  if (value.is_null()) return std::vector<double>();
  if (const auto number = FiniteNumber(value)) return std::vector<double>{*number};
  if (value.if_list() == nullptr) return Wrong(map, where, key, "a number or a list of numbers");
  std::vector<double> numbers;
  for (const Value& entry : *value.if_list()) {
    const auto number = FiniteNumber(entry);
    if (!number) return Wrong(map, where, key, "a number or a list of numbers");
    numbers.push_back(*number);
  }
  return numbers;
}

Status CheckKeys(const Value& map, std::string_view where, std::span<const std::string> known) {
  if (map.if_map() == nullptr) return InvalidArgument(where, ": found ", map.ToJson(), ", expected a map");
  for (const auto& [key, value] : *map.if_map()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const auto nearest = Nearest(key, known);
    return WithHint(InvalidArgument(where, ".", key, ": unknown key; known are ", Join(known, ", ")),
                    nearest ? Cat("did you mean \"", *nearest, "\"?") : "");
  }
  return OkStatus();
}

}  // namespace dtrain
