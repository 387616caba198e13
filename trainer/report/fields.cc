#include "trainer/report/fields.h"

namespace dtrain {

std::optional<double> NumberAt(const Value& value, std::string_view path) {
  const Value& field = value.At(path);
  if (const double* number = field.if_double()) return *number;
  if (const int64_t* number = field.if_int()) return static_cast<double>(*number);
  return std::nullopt;
}

std::optional<int64_t> IntAt(const Value& value, std::string_view path) {
  const int64_t* number = value.At(path).if_int();
  return number == nullptr ? std::nullopt : std::optional(*number);
}

std::string TextAt(const Value& value, std::string_view path) {
  const std::string* text = value.At(path).if_string();
  return text == nullptr ? std::string() : *text;
}

bool BoolAt(const Value& value, std::string_view path) {
  const bool* truth = value.At(path).if_bool();
  return truth != nullptr && *truth;
}

const Value::Map& MapAt(const Value& value, std::string_view path) {
  static const Value::Map empty;
  const Value::Map* map = value.At(path).if_map();
  return map == nullptr ? empty : *map;
}

const Value::List& ListAt(const Value& value, std::string_view path) {
  static const Value::List empty;
  const Value::List* list = value.At(path).if_list();
  return list == nullptr ? empty : *list;
}

}  // namespace dtrain
