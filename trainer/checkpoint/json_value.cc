#include "trainer/checkpoint/json_value.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace dtrain {
namespace {

using Json = nlohmann::json;

// Builds the value while the text is read. A callback returns false to stop; `failure` then says why.
class ValueBuilder final : public nlohmann::json_sax<Json> {
 public:
  explicit ValueBuilder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return Put(Value()); }
  bool boolean(bool value) override { return Put(Value(value)); }
  bool number_integer(int64_t value) override { return Put(Value(value)); }
  bool number_unsigned(uint64_t value) override {
    if (value > static_cast<uint64_t>(INT64_MAX)) return DoesNotFit(std::to_string(value));
    return Put(Value(static_cast<int64_t>(value)));
  }
  bool number_float(double value, const std::string& text) override {
    // An integer too large for 64 bits arrives here too.
    if (text.find_first_of(".eE") == std::string::npos) return DoesNotFit(text);
    return Put(Value(value));
  }
  bool string(std::string& value) override { return Put(Value(std::move(value))); }
  bool binary(Json::binary_t&) override { return false; }  // not in JSON text

  bool start_object(size_t) override { return Push(Value(Value::Map())); }
  bool start_array(size_t) override { return Push(Value(Value::List())); }
  bool end_object() override { return Pop(); }
  bool end_array() override { return Pop(); }
  bool key(std::string& name) override {
    if (open_.back().value.if_map()->contains(name)) {
      return Fail(InvalidArgument("parse JSON: the key \"", name, "\" stands twice in one map"));
    }
    open_.back().key = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ...": the number says nothing.
    std::string_view text = error.what();
    if (const size_t end = text.find("] "); end != std::string_view::npos) text.remove_prefix(end + 2);
    return Fail(InvalidArgument("parse JSON at byte ", position, ": ", text));
  }

  StatusOr<Value> Take() && {
    if (!failure_.ok()) return failure_;
    return std::move(root_);
  }

 private:
  // A list or map that is not closed yet.
  struct Open {
    Value value;
    std::string key;  // of the entry that comes next, in a map
  };

  bool Fail(Status failure) {
    failure_ = std::move(failure);
    return false;
  }
  bool DoesNotFit(const std::string& number) {
    return Fail(InvalidArgument("parse JSON: the integer ", number, " does not fit 64 bits with sign"));
  }
  bool Count() {
    if (++values_ <= limits_.values_max) return true;
    return Fail(ResourceExhausted("parse JSON: more than ", limits_.values_max, " values"));
  }
  bool Place(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (auto* map = open_.back().value.if_map()) {
      map->emplace(std::move(open_.back().key), std::move(value));
    } else {
      lists_.back().push_back(std::move(value));
    }
    return true;
  }
  bool Put(Value value) { return Count() && Place(std::move(value)); }
  bool Push(Value value) {
    if (static_cast<int64_t>(open_.size()) >= limits_.depth_max) {
      return Fail(ResourceExhausted("parse JSON: lists and maps more than ", limits_.depth_max, " deep"));
    }
    if (!Count()) return false;
    if (value.if_list() != nullptr) lists_.emplace_back();
    open_.push_back({std::move(value), {}});
    return true;
  }
  bool Pop() {
    Value value = std::move(open_.back().value);
    open_.pop_back();
    if (value.if_list() != nullptr) {
      value = Value(std::move(lists_.back()));
      lists_.pop_back();
    }
    return Place(std::move(value));
  }

  const JsonLimits limits_;
  std::vector<Open> open_;
  std::vector<Value::List> lists_;  // the entries of the open lists: Value gives no way to append to one
  Value root_;
  int64_t values_ = 0;
  Status failure_;
};

}  // namespace

StatusOr<Value> ParseJson(std::string_view text, const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.bytes_max) {
    return ResourceExhausted("parse JSON: the text has ", text.size(), " bytes, at most ", limits.bytes_max, " are read");
  }
  ValueBuilder builder(limits);
  Json::sax_parse(text.begin(), text.end(), &builder);  // false exactly if the builder holds a failure
  return std::move(builder).Take();
}

}  // namespace dtrain
