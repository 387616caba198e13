// Text for people: putting parts together, numbers as people write them, the nearest word to a mistyped one.
#pragma once
#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain {

inline void AppendTo(std::string& text, std::string_view part) { text += part; }
inline void AppendTo(std::string& text, const char* part) { text += part; }
inline void AppendTo(std::string& text, const std::string& part) { text += part; }
inline void AppendTo(std::string& text, char part) { text += part; }
inline void AppendTo(std::string& text, bool part) { text += part ? "true" : "false"; }
template <std::integral T>
void AppendTo(std::string& text, T part) {
  char digits[24];
  text.append(digits, std::to_chars(digits, digits + sizeof digits, part).ptr);
}
// The shortest digits that read back equal.
template <std::floating_point T>
void AppendTo(std::string& text, T part) {
  char digits[32];
  text.append(digits, std::to_chars(digits, digits + sizeof digits, part).ptr);
}

// All parts as one text: Cat("step ", 7) is "step 7".
template <typename... Parts>
std::string Cat(const Parts&... parts) {
  std::string text;
  (AppendTo(text, parts), ...);
  return text;
}

std::string Join(std::span<const std::string> parts, std::string_view between);
std::vector<std::string> Split(std::string_view text, char at);
std::string_view Trim(std::string_view text);  // without white space at both ends

// The whole of `text` as a number; nothing if it is none or does not fit.
std::optional<int64_t> ParseInt(std::string_view text);
std::optional<double> ParseDouble(std::string_view text);

std::string WithCommas(int64_t number);        // 1,234,567
std::string HumanBytes(double bytes);          // 2.7 MB
std::string HumanSeconds(double seconds);      // 850 ms, 12.3 s, 4 min 5 s, 2 h 3 min
std::string Fixed(double number, int digits);  // 3.142

// The candidate nearest to `word` by edits (insert, delete, replace, swap neighbours); nothing if none is near enough
// to be what was meant (more than a third of the longer word's letters, at least 1, would have to change).
std::optional<std::string> Nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace dtrain
