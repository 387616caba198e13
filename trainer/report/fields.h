// Fields of a map that another process or a file wrote. A field of another type counts as absent, where Value's own
// accessors would stop the program: those are for values that were checked before. Pure functions.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/value.h"

namespace dtrain {

// JSON has no NaN: a loss that is none arrives as null and is absent here.
std::optional<double> NumberAt(const Value& value, std::string_view path);  // integers too
std::optional<int64_t> IntAt(const Value& value, std::string_view path);
std::string TextAt(const Value& value, std::string_view path);         // empty if absent
bool BoolAt(const Value& value, std::string_view path);                // false if absent
const Value::Map& MapAt(const Value& value, std::string_view path);    // empty if absent
const Value::List& ListAt(const Value& value, std::string_view path);  // empty if absent

}  // namespace dtrain
