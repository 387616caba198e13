// Keys of a map in the configuration, with errors that name the key, what was found and what is expected. `where` is the
// map's own name ("data", "data.transforms[1]"). All errors are kInvalidArgument. An absent or null key gives `otherwise`.
// For the factories of data sets and transforms, users' own included.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/value.h"

namespace dtrain {

StatusOr<bool> BoolSetting(const Value& map, std::string_view where, const std::string& key, bool otherwise);
// In [min, max].
StatusOr<int64_t> IntSetting(const Value& map, std::string_view where, const std::string& key, int64_t otherwise, int64_t min, int64_t max);
// In [min, max], finite; integers are numbers too.
StatusOr<double> NumberSetting(const Value& map, std::string_view where, const std::string& key, double otherwise, double min, double max);
StatusOr<std::string> TextSetting(const Value& map, std::string_view where, const std::string& key, std::string_view otherwise);
// A list of finite numbers, or one number; empty if absent.
StatusOr<std::vector<double>> NumbersSetting(const Value& map, std::string_view where, const std::string& key);

// OK if `map` is a map that has no keys but `known`; else the error suggests the nearest.
Status CheckKeys(const Value& map, std::string_view where, std::span<const std::string> known);

}  // namespace dtrain
