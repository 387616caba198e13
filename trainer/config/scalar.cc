#include "trainer/config/scalar.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "trainer/config/duration.h"

namespace dtrain {
namespace {

struct SizeUnit {
  std::string_view word;
  int64_t bytes;
};
constexpr SizeUnit kSizeUnits[] = {{"GB", 1 << 30},  {"MB", 1 << 20},  {"kB", 1 << 10},  {"B", 1},
                                   {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"KB", 1 << 10}};

bool IsDigits(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Whether it begins as a number does: keeps "inf" and "nan" from being one.
bool LooksNumeric(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  if (text.starts_with('.')) text.remove_prefix(1);
  return !text.empty() && text[0] >= '0' && text[0] <= '9';
}

// ParseDouble and ParseInt take no plus sign; YAML does.
std::string_view WithoutPlus(std::string_view text) {
  return text.starts_with('+') && LooksNumeric(text.substr(1)) && text[1] != '-' ? text.substr(1) : text;
}

// A number of any size; nothing unless the whole text is one and it is finite.
std::optional<double> ParseFinite(std::string_view text) {
  if (!LooksNumeric(text)) return std::nullopt;
  const auto number = ParseDouble(WithoutPlus(text));
  return number && std::isfinite(*number) ? number : std::nullopt;
}

bool IsOutOfRange(std::string_view text) {
  if (!LooksNumeric(text)) return false;
  double number = 0;
  const std::string_view plain = WithoutPlus(text);
  const auto result = std::from_chars(plain.data(), plain.data() + plain.size(), number);
  return result.ec == std::errc::result_out_of_range && result.ptr == plain.data() + plain.size();
}

Status Refused(const Key& key, std::string_view text, std::string_view hint = "") {
  return InvalidArgument("found ", Shown(text), ", expected ", Expected(key), hint.empty() ? "" : "; ", hint);
}

bool IsInRange(const Key& key, double number) {
  return (key.above_min ? number > key.min : number >= key.min) && (key.below_max ? number < key.max : number <= key.max);
}

std::string RangeHint(const Key& key, double number) {
  const bool too_much = number > key.min;
  return too_much ? Cat("it must be ", key.below_max ? "below " : "at most ", key.max)
                  : Cat("it must be ", key.above_min ? "above " : "at least ", key.min);
}

StatusOr<Value> ParseBool(const Key& key, std::string_view text, bool quoted) {
  if (!quoted && text == "true") return Value(true);
  if (!quoted && text == "false") return Value(false);
  for (const std::string_view yes : {"yes", "on", "True", "TRUE", "1", "true", "y"}) {
    if (text == yes) return Refused(key, text, "write true, without quotes");
  }
  for (const std::string_view no : {"no", "off", "False", "FALSE", "0", "false", "n"}) {
    if (text == no) return Refused(key, text, "write false, without quotes");
  }
  return Refused(key, text);
}

// Why a text that should be a number is none.
std::string NumberHint(std::string_view text, bool quoted) {
  std::string digits(text);
  std::erase_if(digits, [](char c) { return c == ',' || c == '_' || c == ' '; });
  if (quoted && ParseFinite(text)) return "write it without quotes";
  if (IsOutOfRange(text)) return "it does not fit into a number";
  if (digits.size() < text.size() && ParseFinite(digits)) return Cat("did you mean ", digits, "?");
  return "";
}

StatusOr<Value> ParseInteger(const Key& key, std::string_view text, bool quoted) {
  const auto number = quoted ? std::nullopt : ParseInt(WithoutPlus(text));
  if (number)
    return IsInRange(key, static_cast<double>(*number)) ? StatusOr<Value>(*number)
                                                        : Refused(key, text, RangeHint(key, static_cast<double>(*number)));
  if (!quoted && IsDigits(text)) return Refused(key, text, "it does not fit into 64 bits");
  if (const auto real = ParseFinite(text); real && !quoted && *real == std::floor(*real) && std::abs(*real) < 1e15) {
    return Refused(key, text, Cat("did you mean ", static_cast<int64_t>(*real), "?"));
  }
  return Refused(key, text, NumberHint(text, quoted));
}

StatusOr<Value> ParseNumber(const Key& key, std::string_view text, bool quoted) {
  const auto number = quoted ? std::nullopt : ParseFinite(text);
  if (!number) return Refused(key, text, NumberHint(text, quoted));
  if (!IsInRange(key, *number)) return Refused(key, text, RangeHint(key, *number));
  return Value(*number + 0.0);  // -0 becomes 0
}

StatusOr<Value> ParseSize(const Key& key, std::string_view text) {
  const auto bytes = ParseBytes(text);
  if (!bytes) return Refused(key, text, ParseInt(text) ? Cat("add the unit: ", text, "B, ", text, "kB or ", text, "MB") : "");
  if (!IsInRange(key, static_cast<double>(*bytes))) {
    return Refused(
        key, text,
        Cat("it must lie between ", FormatBytes(static_cast<int64_t>(key.min)), " and ", FormatBytes(static_cast<int64_t>(key.max))));
  }
  return Value(*bytes);
}

StatusOr<Value> ParseTime(const Key& key, std::string_view text) {
  const auto span = ParseTrainingSpan(text);
  if (!span.ok()) {
    const std::string message = Message(span.status());
    const size_t hint = message.find("; ");
    // A bare number would be told to add "ep", which is no time.
    const bool is_bare = LooksNumeric(text) && ParseFinite(text);
    return Refused(key, text,
                   is_bare                     ? Cat("add the unit, for example ", text, "s")
                   : hint == std::string::npos ? ""
                                               : message.substr(hint + 2));
  }
  if (!span->is_time()) return Refused(key, text, "only a time makes sense here");
  if (!IsInRange(key, span->amount)) {
    return Refused(key, text,
                   Cat("it must lie between ", FormatTrainingSpan({key.min, TrainingSpan::Unit::kSeconds}), " and ",
                       FormatTrainingSpan({key.max, TrainingSpan::Unit::kSeconds})));
  }
  return Value(span->amount);
}

StatusOr<Value> ParseSpan(const Key& key, std::string_view text) {
  const auto span = ParseTrainingSpan(text);
  if (!span.ok()) {
    const std::string message = Message(span.status());
    const size_t hint = message.find("; ");
    return Refused(key, text, hint == std::string::npos ? "" : message.substr(hint + 2));
  }
  if (key.no_time && span->is_time()) return Refused(key, text, "it must not depend on the clock");
  if (!IsInRange(key, span->amount)) return Refused(key, text, RangeHint(key, span->amount));
  return Value(FormatTrainingSpan(*span));
}

// Whether `text` can stand without quotes and is then read as text.
bool IsPlainText(std::string_view text) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '/'; };
  const auto is_inner = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.'; };
  if (text.empty() || !is_letter(text[0]) || !std::all_of(text.begin(), text.end(), is_inner)) return false;
  constexpr std::string_view kNotText[] = {"null",  "Null",  "NULL", "true", "True", "TRUE", "false",
                                           "False", "FALSE", "yes",  "no",   "on",   "off"};
  return std::find(std::begin(kNotText), std::end(kNotText), text) == std::end(kNotText);
}

std::string FormatText(const std::string& text) { return IsPlainText(text) ? text : Value(text).ToJson(); }

}  // namespace

std::string Shown(std::string_view text) {
  constexpr size_t kBytesMax = 60;
  size_t end = std::min(text.size(), kBytesMax);
  while (end < text.size() && end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;  // not within a character
  std::string shown = "'";
  for (const char c : text.substr(0, end)) shown += static_cast<uint8_t>(c) < 0x20 || c == 0x7F ? '?' : c;
  return shown + (end < text.size() ? "...'" : "'");
}

std::optional<int64_t> ParseBytes(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = ParseInt(text.substr(0, digits));
  for (const SizeUnit& unit : kSizeUnits) {
    if (number && text.substr(digits) == unit.word && *number <= INT64_MAX / unit.bytes) return *number * unit.bytes;
  }
  return std::nullopt;
}

std::string FormatBytes(int64_t bytes) {
  for (const SizeUnit& unit : kSizeUnits) {
    if (bytes % unit.bytes == 0) return Cat(bytes / unit.bytes, unit.word);
  }
  return Cat(bytes, "B");
}

StatusOr<Value> ParseScalar(const Key& key, std::string_view text, bool quoted) {
  const std::vector<std::string> words = key.words.empty() ? std::vector<std::string>() : Split(key.words, '|');
  if (std::find(words.begin(), words.end(), text) != words.end()) return Value(std::string(text));
  switch (key.type) {
    case KeyType::kWord: {
      const auto nearest = text.size() < 64 ? Nearest(text, words) : std::nullopt;
      return Refused(key, text, nearest ? Cat("did you mean ", *nearest, "?") : "");
    }
    case KeyType::kBool:
      return ParseBool(key, text, quoted);
    case KeyType::kInt:
    case KeyType::kInts:
      return ParseInteger(key, text, quoted);
    case KeyType::kNumber:
    case KeyType::kNumbers:
      return ParseNumber(key, text, quoted);
    case KeyType::kText:
    case KeyType::kTexts:
      return Value(std::string(text));
    case KeyType::kBytes:
      return ParseSize(key, text);
    case KeyType::kTime:
      return ParseTime(key, text);
    case KeyType::kSpan:
    case KeyType::kSpans:
      return ParseSpan(key, text);
    case KeyType::kSection:
    case KeyType::kMaps:
      return Refused(key, text);
  }
  return Refused(key, text);
}

StatusOr<Value> ParseFreeScalar(std::string_view text, bool quoted) {
  if (!quoted) {
    if (text == "true") return Value(true);
    if (text == "false") return Value(false);
    if (const auto integer = ParseInt(WithoutPlus(text))) return Value(*integer);
    if (const auto number = ParseFinite(text)) return Value(*number);
    for (const std::string_view infinite : {".inf", "-.inf", "+.inf", ".nan", ".Inf", ".NaN", "inf", "-inf", "nan"}) {
      if (text == infinite) return InvalidArgument("found ", Shown(text), ", expected a finite number; write it in quotes if it is text");
    }
    if (IsOutOfRange(text)) return InvalidArgument("found ", Shown(text), ", expected a finite number; it does not fit into a number");
  }
  return Value(std::string(text));
}

std::string FormatValue(const Key* key, const Value& value) {
  if (const auto* list = value.if_list()) {
    std::vector<std::string> items;
    for (const Value& item : *list) items.push_back(FormatValue(key, item));
    return Cat("[", Join(items, ", "), "]");
  }
  if (const auto* map = value.if_map()) {
    std::vector<std::string> entries;
    for (const auto& [name, entry] : *map) entries.push_back(Cat(FormatText(name), ": ", FormatValue(nullptr, entry)));
    return Cat("{", Join(entries, ", "), "}");
  }
  if (const auto* text = value.if_string()) {
    // Words and spans are read as what they are with or without quotes.
    const bool is_span = key != nullptr && (key->type == KeyType::kSpan || key->type == KeyType::kSpans);
    return is_span ? *text : FormatText(*text);
  }
  if (key != nullptr && key->type == KeyType::kBytes && value.if_int() != nullptr) return FormatBytes(*value.if_int());
  if (key != nullptr && key->type == KeyType::kTime && value.if_double() != nullptr) {
    return FormatTrainingSpan({*value.if_double(), TrainingSpan::Unit::kSeconds});
  }
  if (const auto* number = value.if_double(); number != nullptr && key != nullptr) return Cat(*number);
  return value.ToJson();
}

}  // namespace dtrain
