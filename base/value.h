// A value of a configuration: null, bool, integer, number, text, list or map. The resolved configuration is a tree of
// these; models and data sets read their parameters from one without knowing YAML.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"

namespace dtrain {

class Value {
 public:
  using List = std::vector<Value>;
  using Map = std::map<std::string, Value, std::less<>>;

  Value() = default;
  Value(bool value) : data_(value) {}
  Value(int value) : data_(int64_t{value}) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(const char* value) : data_(std::string(value)) {}
  Value(std::string value) : data_(std::move(value)) {}
  Value(List value) : data_(std::move(value)) {}
  Value(Map value) : data_(std::move(value)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  const bool* if_bool() const { return std::get_if<bool>(&data_); }
  const int64_t* if_int() const { return std::get_if<int64_t>(&data_); }
  const double* if_double() const { return std::get_if<double>(&data_); }
  const std::string* if_string() const { return std::get_if<std::string>(&data_); }
  const List* if_list() const { return std::get_if<List>(&data_); }
  const Map* if_map() const { return std::get_if<Map>(&data_); }
  Map* if_map() { return std::get_if<Map>(&data_); }

  // The value at a dotted path ("data.batch.global"); a null value where there is none.
  const Value& At(std::string_view path) const;
  // Puts `value` at a dotted path; maps on the way are made.
  void Set(std::string_view path, Value value);

  // The value at `path` as a type; `otherwise` if it is null or absent. A value of another type is a mistake of ours
  // (the configuration was checked against its table before), so it stops at a check.
  bool Bool(std::string_view path, bool otherwise) const;
  int64_t Int(std::string_view path, int64_t otherwise) const;
  double Double(std::string_view path, double otherwise) const;  // integers too
  std::string String(std::string_view path, std::string_view otherwise) const;
  std::vector<int64_t> Ints(std::string_view path) const;    // a list of integers, or one integer; empty if absent
  std::vector<double> Doubles(std::string_view path) const;  // likewise

  std::string ToJson() const;  // one line; keys in order; doubles so that they read back equal
  bool operator==(const Value&) const = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, List, Map> data_;
};

}  // namespace dtrain
