// Between the text of a configuration and the typed values of its keys: "4MB" and 4194304, "90s" and 90.0.
// Pure functions; safe to call from any thread.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "base/value.h"
#include "trainer/config/keys.h"

namespace dtrain {

// A scalar as an error shows it: in quotes, without control characters, cut if it is long.
std::string Shown(std::string_view text);

// `text` as one value of `key` (of a list: one of its entries). `quoted` scalars are text whatever they look like.
// kInvalidArgument: "found 'fast', expected a number > 0", with a hint behind a semicolon where there is one.
StatusOr<Value> ParseScalar(const Key& key, std::string_view text, bool quoted);

// `text` as what YAML's core schema says it is: true, false, integer, number, else text. kInvalidArgument for a number that
// is not finite. For keys of the user's own.
StatusOr<Value> ParseFreeScalar(std::string_view text, bool quoted);

// "4MB", "512kB", "1000B" and back. Nothing if it is no size or does not fit.
std::optional<int64_t> ParseBytes(std::string_view text);
std::string FormatBytes(int64_t bytes);

// `value` in YAML's flow style so that the table reads it back equal; `key` is null for a key of the user's own.
std::string FormatValue(const Key* key, const Value& value);

}  // namespace dtrain
