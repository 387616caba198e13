// JSON text to Value (base/value.h), by nlohmann-json's event parser; the way back is Value::ToJson.
// Safe on text from anywhere: size, depth and number of values are bounded before anything is built.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "base/value.h"

namespace dtrain {

struct JsonLimits {
  int64_t bytes_max = 64 << 20;
  int64_t depth_max = 64;          // of lists and maps inside one another
  int64_t values_max = 4'000'000;  // a value takes many times the bytes of its text
};

// The one value that `text` holds, white space around it allowed. Integers must fit 64 bits with sign; a number with a
// point or an exponent is a double. kInvalidArgument, with the position, for text that is not JSON or not UTF-8, a key
// that stands twice in one map, or a number that does not fit; kResourceExhausted beyond a limit.
StatusOr<Value> ParseJson(std::string_view text, const JsonLimits& limits = {});

}  // namespace dtrain
