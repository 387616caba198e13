#include "base/value.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/check.h"

namespace dtrain {
namespace {

void AppendJsonString(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      out += escaped;
    } else {
      out += c;
    }
  }
  out += '"';
}

void AppendJson(const Value& value, std::string& out) {
  if (value.is_null()) {
    out += "null";
  } else if (const auto* b = value.if_bool()) {
    out += *b ? "true" : "false";
  } else if (const auto* i = value.if_int()) {
    out += std::to_string(*i);
  } else if (const auto* d = value.if_double()) {
    if (!std::isfinite(*d)) {  // JSON has no such number
      out += "null";
    } else {
      char digits[32];
      const auto end = std::to_chars(digits, digits + sizeof digits, *d).ptr;
      out.append(digits, end);
      if (std::string_view(digits, end - digits).find_first_of(".e") == std::string_view::npos) out += ".0";
    }
  } else if (const auto* s = value.if_string()) {
    AppendJsonString(*s, out);
  } else if (const auto* list = value.if_list()) {
    out += '[';
    for (size_t i = 0; i < list->size(); ++i) {
      if (i > 0) out += ", ";
      AppendJson((*list)[i], out);
    }
    out += ']';
  } else {
    out += '{';
    bool first = true;
    for (const auto& [key, entry] : *value.if_map()) {
      if (!first) out += ", ";
      first = false;
      AppendJsonString(key, out);
      out += ": ";
      AppendJson(entry, out);
    }
    out += '}';
  }
}

}  // namespace

const Value& Value::At(std::string_view path) const {
  static const Value null;
  const Value* value = this;
  while (!path.empty()) {
    const size_t dot = path.find('.');
    const Map* map = value->if_map();
    if (map == nullptr) return null;
    const auto entry = map->find(path.substr(0, dot));
    if (entry == map->end()) return null;
    value = &entry->second;
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  return *value;
}

void Value::Set(std::string_view path, Value new_value) {
  Value* value = this;
  while (!path.empty()) {
    const size_t dot = path.find('.');
    if (value->if_map() == nullptr) *value = Map();
    value = &(*value->if_map())[std::string(path.substr(0, dot))];
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  *value = std::move(new_value);
}

bool Value::Bool(std::string_view path, bool otherwise) const {
  const Value& value = At(path);
  if (value.is_null()) return otherwise;
  DTRAIN_CHECK(value.if_bool() != nullptr);
  return *value.if_bool();
}

int64_t Value::Int(std::string_view path, int64_t otherwise) const {
  const Value& value = At(path);
  if (value.is_null()) return otherwise;
  DTRAIN_CHECK(value.if_int() != nullptr);
  return *value.if_int();
}

double Value::Double(std::string_view path, double otherwise) const {
  const Value& value = At(path);
  if (value.is_null()) return otherwise;
  if (const auto* i = value.if_int()) return static_cast<double>(*i);
  DTRAIN_CHECK(value.if_double() != nullptr);
  return *value.if_double();
}

std::string Value::String(std::string_view path, std::string_view otherwise) const {
  const Value& value = At(path);
  if (value.is_null()) return std::string(otherwise);
  DTRAIN_CHECK(value.if_string() != nullptr);
  return *value.if_string();
}

std::vector<int64_t> Value::Ints(std::string_view path) const {
  const Value& value = At(path);
  if (value.is_null()) return {};
  if (const auto* i = value.if_int()) return {*i};
  DTRAIN_CHECK(value.if_list() != nullptr);
  std::vector<int64_t> ints;
  for (const Value& entry : *value.if_list()) ints.push_back(entry.Int("", 0));
  return ints;
}

std::vector<double> Value::Doubles(std::string_view path) const {
  const Value& value = At(path);
  if (value.is_null()) return {};
  if (value.if_list() == nullptr) return {value.Double("", 0)};
  std::vector<double> doubles;
  for (const Value& entry : *value.if_list()) doubles.push_back(entry.Double("", 0));
  return doubles;
}

std::string Value::ToJson() const {
  std::string out;
  AppendJson(*this, out);
  return out;
}

}  // namespace dtrain
