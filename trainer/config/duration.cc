#include "trainer/config/duration.h"

#include <charconv>
#include <cmath>
#include <map>
#include <vector>

#include "base/check.h"

namespace dtrain {
namespace {

constexpr double kStepsMax = 9007199254740992.0;  // 2^53: every step below is exact in a double
constexpr double kAmountMax = 1e9;                // epochs, or 31 years

struct UnitWord {
  std::string_view word;
  TrainingSpan::Unit unit;
  double multiply, divide;  // to seconds; dividing keeps 333ms the double nearest to 0.333
};
// Times from the longest, the order in which FormatTrainingSpan tries them.
constexpr UnitWord kUnits[] = {{"ep", TrainingSpan::Unit::kEpochs, 1, 1},    {"st", TrainingSpan::Unit::kSteps, 1, 1},
                               {"h", TrainingSpan::Unit::kSeconds, 3600, 1}, {"min", TrainingSpan::Unit::kSeconds, 60, 1},
                               {"s", TrainingSpan::Unit::kSeconds, 1, 1},    {"ms", TrainingSpan::Unit::kSeconds, 1, 1000}};
constexpr std::string_view kExpected = "a number with a unit: ep (epochs), st (steps), h, min, s or ms";

// What people write when they mean one of ours.
const std::map<std::string_view, std::string_view> kMeant = {
    {"e", "ep"},     {"epoch", "ep"},   {"epochs", "ep"},   {"step", "st"},  {"steps", "st"}, {"it", "st"},
    {"iter", "st"},  {"sec", "s"},      {"seconds", "s"},   {"second", "s"}, {"secs", "s"},   {"m", "min"},
    {"mins", "min"}, {"minute", "min"}, {"minutes", "min"}, {"hr", "h"},     {"hour", "h"},   {"hours", "h"},
    {"msec", "ms"},  {"S", "s"},        {"EP", "ep"},       {"ST", "st"},    {"H", "h"}};

// to_chars without an exponent, which ParseTrainingSpan would not take.
std::string Digits(double number) {
  char digits[400];
  return std::string(digits, std::to_chars(digits, digits + sizeof digits, number, std::chars_format::fixed).ptr);
}

Status Refused(std::string_view text, std::string_view hint) {
  return InvalidArgument("found '", text, "', expected ", kExpected, hint.empty() ? "" : "; ", hint);
}

}  // namespace

StatusOr<TrainingSpan> ParseTrainingSpan(std::string_view text) {
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  const std::string_view digits = text.substr(0, parsed.ptr - text.data());
  const std::string_view unit = Trim(text.substr(digits.size()));
  if (parsed.ec != std::errc() || !std::isfinite(number)) return Refused(text, "");
  if (unit.empty()) return Refused(text, Cat("add the unit, for example ", text, "ep"));
  for (const UnitWord& known : kUnits) {
    if (unit != known.word) continue;
    if (digits.size() + unit.size() != text.size()) return Refused(text, Cat("write it as one word: ", digits, unit));
    if (std::signbit(number)) return Refused(text, "it cannot be negative");
    const TrainingSpan span = {number * known.multiply / known.divide, known.unit};
    if (span.unit == TrainingSpan::Unit::kSteps && span.amount != std::floor(span.amount)) return Refused(text, "steps are whole");
    if (span.amount > (span.unit == TrainingSpan::Unit::kSteps ? kStepsMax : kAmountMax)) {
      return Refused(text, "it is longer than anything that can be meant");
    }
    return span;
  }
  const auto meant = kMeant.find(unit);
  return Refused(text, meant == kMeant.end() ? "" : Cat("did you mean ", digits, meant->second, "?"));
}

std::string FormatTrainingSpan(const TrainingSpan& span) {
  if (!span.is_time()) return Cat(Digits(span.amount), span.unit == TrainingSpan::Unit::kEpochs ? "ep" : "st");
  if (span.amount > 0) {
    for (const UnitWord& unit : kUnits) {
      if (unit.unit != TrainingSpan::Unit::kSeconds) continue;
      const double amount = std::round(span.amount / unit.multiply * unit.divide);
      if (amount >= 1 && amount * unit.multiply / unit.divide == span.amount) return Cat(Digits(amount), unit.word);
    }
  }
  return Cat(Digits(span.amount), "s");
}

int64_t Steps(const TrainingSpan& span, int64_t steps_per_epoch) {
  DTRAIN_CHECK(!span.is_time());
  DTRAIN_CHECK(steps_per_epoch > 0);
  if (span.unit == TrainingSpan::Unit::kSteps) return static_cast<int64_t>(span.amount);
  const double steps = std::round(span.amount * static_cast<double>(steps_per_epoch));
  if (steps >= kStepsMax) return static_cast<int64_t>(kStepsMax);
  return span.amount > 0 && steps < 1 ? 1 : static_cast<int64_t>(steps);
}

}  // namespace dtrain
