#include "trainer/config/check.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/text.h"
#include "trainer/config/batch_equation.h"
#include "trainer/config/duration.h"
#include "trainer/config/keys.h"
#include "trainer/config/scalar.h"

namespace dtrain {
namespace {

using Kind = YamlNode::Kind;

constexpr size_t kWordBytesMax = 64;      // longer ones are not compared with known words
constexpr size_t kRunNameBytesMax = 100;  // of a file name's 255, the rest is for endings

std::string Found(const YamlNode& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kScalar:
      return Shown(node.text);
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a map";
  }
  return "";
}

bool TakesList(KeyType type) {
  return type == KeyType::kSpans || type == KeyType::kInts || type == KeyType::kNumbers || type == KeyType::kTexts ||
         type == KeyType::kMaps;
}

std::string Join(std::string_view section, std::string_view name) { return section.empty() ? std::string(name) : Cat(section, ".", name); }

// The known key that a mistyped one most likely means: beside it, else by its name anywhere, else nearest anywhere.
std::optional<std::string> Meant(std::string_view section, std::string_view name) {
  if (name.size() > kWordBytesMax) return std::nullopt;
  std::vector<std::string> names;
  for (const Key* key : KeysOf(section)) names.emplace_back(key->name());
  if (const auto nearest = Nearest(name, names)) return Join(section, *nearest);
  for (const Key& key : Keys()) {
    if (key.name() == name) return key.path;
  }
  names.clear();
  for (const Key& key : Keys()) names.emplace_back(key.name());
  if (const auto nearest = Nearest(name, names)) return Keys()[std::find(names.begin(), names.end(), *nearest) - names.begin()].path;
  return std::nullopt;
}

class Checker {
 public:
  Checker(const YamlNode& root, const CheckOptions& options) : root_(root), options_(options) {}

  CheckResult Run() {
    ReadSection("", root_);
    FillDefaults();
    CheckAvailable();
    CheckRules();
    return std::move(result_);
  }

 private:
  // --- reading ---------------------------------------------------------------------------------------------------------

  void Report(const YamlNode& node, std::string text) { result_.problems.push_back({node.source, node.at, std::move(text)}); }

  // Whether `section` belongs to a model or data set of the user's own.
  bool IsOwn(std::string_view section) const {
    const std::string_view type_key = OwnTypeKey(section);
    if (type_key.empty()) return false;
    const YamlEntry* map = root_.Find(section);
    const YamlEntry* type = map == nullptr ? nullptr : map->value.Find(FindKey(type_key)->name());
    if (type == nullptr || type->value.kind != Kind::kScalar) return false;
    return section == "model" ? !IsBuiltInModel(type->value.text) : !IsBuiltInDataset(type->value.text);
  }

  void ReadSection(const std::string& section, const YamlNode& node) {
    if (node.kind == Kind::kNull) return;
    if (node.kind != Kind::kMap) {
      Report(node, Cat(section.empty() ? "the file" : section, ": found ", Found(node), ", expected a map of keys"));
      return;
    }
    const bool is_own = IsOwn(section);
    for (const YamlEntry& entry : node.entries) {
      const std::string path = Join(section, entry.key);
      const Key* key = entry.key.find('.') == std::string::npos ? FindKey(path) : nullptr;
      if (is_own && (key == nullptr || !key->only_for.empty())) {
        ReadOwn(path, entry);
      } else if (key == nullptr) {
        const auto meant = Meant(section, entry.key);
        // The value's node carries the source; the key's own place is what is wrong.
        result_.problems.push_back(
            {entry.value.source, entry.at, Cat(Shown(path), ": unknown key", meant ? Cat("; did you mean ", *meant, "?") : "")});
      } else {
        ReadKey(*key, entry.value);
      }
    }
  }

  void ReadKey(const Key& key, const YamlNode& node) {
    result_.given[key.path] = &node;
    const size_t problems_before = result_.problems.size();
    if (key.type == KeyType::kSection) {
      ReadSection(key.path, node);
    } else {
      Value value = ReadValue(key, node);
      if (result_.problems.size() == problems_before) {
        result_.values.Set(key.path, std::move(value));
        return;
      }
    }
    if (result_.problems.size() > problems_before) failed_.insert(key.path);
  }

  Value ReadValue(const Key& key, const YamlNode& node) {
    if (node.kind == Kind::kNull) {
      if (!key.nullable) Report(node, Cat(key.path, ": found nothing, expected ", Expected(key)));
      return {};
    }
    if (node.kind == Kind::kList && TakesList(key.type)) {
      Value::List list;
      for (const YamlNode& item : node.items) list.push_back(ReadItem(key, item));
      if (list.empty() && key.type == KeyType::kSpans) Report(node, Cat(key.path, ": found an empty list, expected ", Expected(key)));
      return list;
    }
    if (node.kind != Kind::kScalar || key.type == KeyType::kMaps) {
      Report(node, Cat(key.path, ": found ", Found(node), ", expected ", Expected(key)));
      return {};
    }
    Value value = ReadItem(key, node);
    const bool is_word =
        value.if_string() != nullptr && !key.words.empty() && key.type == KeyType::kSpans && IsWord(key, *value.if_string());
    return TakesList(key.type) && !is_word ? Value(Value::List{std::move(value)}) : value;
  }

  static bool IsWord(const Key& key, const std::string& text) {
    const auto words = Split(key.words, '|');
    return std::find(words.begin(), words.end(), text) != words.end();
  }

  // A scalar, or one entry of a list.
  Value ReadItem(const Key& key, const YamlNode& node) {
    if (key.type == KeyType::kMaps && node.kind == Kind::kMap) {
      Value::Map map;
      for (const YamlEntry& entry : node.entries) map[entry.key] = ReadFree(key.path, entry.value);
      return map;
    }
    if (node.kind != Kind::kScalar) {
      Report(node, Cat(key.path, ": found ", Found(node), " in the list, expected ", Expected(key)));
      return {};
    }
    auto value = ParseScalar(key, node.text, node.quoted);
    if (!value.ok()) {
      Report(node, Cat(key.path, ": ", Message(value.status())));
      return {};
    }
    if (key.type == KeyType::kSpans && node.at != result_.given[key.path]->at && IsWord(key, node.text)) {
      Report(node, Cat(key.path, ": found ", Found(node), " in a list, expected durations only"));
    }
    return *std::move(value);
  }

  // A scalar or a list of them, whatever the table would say.
  Value ReadFree(const std::string& path, const YamlNode& node) {
    if (node.kind == Kind::kNull) return {};
    if (node.kind == Kind::kList) {
      Value::List list;
      for (const YamlNode& item : node.items) list.push_back(ReadFree(path, item));
      return list;
    }
    if (node.kind == Kind::kMap) {
      Report(node, Cat(path, ": found a map, expected a scalar or a list"));
      return {};
    }
    auto value = ParseFreeScalar(node.text, node.quoted);
    if (value.ok()) return *std::move(value);
    Report(node, Cat(path, ": ", Message(value.status())));
    return {};
  }

  void ReadOwn(const std::string& path, const YamlEntry& entry) {
    const auto is_inner = [](char c) {
      return c == '_' || c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    if (entry.key.empty() || !std::all_of(entry.key.begin(), entry.key.end(), is_inner)) {
      result_.problems.push_back(
          {entry.value.source, entry.at,
           Cat(Shown(path), ": found a name with other signs, expected letters, digits, _ and - in a key of your own")});
      return;
    }
    result_.given[path] = &entry.value;
    result_.values.Set(path, ReadFree(path, entry.value));
  }

  // --- defaults --------------------------------------------------------------------------------------------------------

  void FillDefaults() {
    for (const Key& key : Keys()) {
      if (key.type == KeyType::kSection) {
        if (key.nullable && !IsGiven(key.path)) result_.values.Set(key.path, {});
        continue;
      }
      const Key* section = FindKey(key.section());
      if (section->nullable && !IsGiven(section->path)) continue;
      const bool is_own = IsOwn(key.section()) && !key.only_for.empty();
      if (is_own) continue;
      if (!AppliesTo(key, result_.values)) {
        RefuseMeaningless(key);
      } else if (!result_.given.contains(key.path) || failed_.contains(key.path)) {
        FillDefault(key);
      }
    }
  }

  // Given, and not as null.
  bool IsGiven(const std::string& path) const {
    const auto node = result_.given.find(path);
    return node != result_.given.end() && node->second->kind != Kind::kNull;
  }

  void FillDefault(const Key& key) {
    if (!key.default_value.empty()) {
      result_.values.Set(key.path, DefaultOf(key));
      return;
    }
    std::string from;
    Value value = Derive(key.path, &from);
    if (!value.is_null()) {
      result_.values.Set(key.path, std::move(value));
      result_.derived[key.path] = from;
    } else {
      const bool is_users = key.path == "model.type" || key.path == "data.dataset";
      if (!(is_users && options_.use == ConfigUse::kOwnLoop) && !failed_.contains(key.path)) {
        result_.problems.push_back({0, {}, Cat(key.path, ": missing; ", key.help)});
      }
    }
  }

  // The table is our own: a default that it would not take is a mistake of ours.
  static Value DefaultOf(const Key& key) {
    const YamlResult text = ReadYaml(key.default_value);
    Checker checker(text.root, {});
    checker.result_.given[key.path] = &text.root;
    Value value = checker.ReadValue(key, text.root);
    DTRAIN_CHECK(text.problems.empty() && checker.result_.problems.empty());
    return value;
  }

  // Null for a key without any default.
  Value Derive(const std::string& path, std::string* from) const {
    const Value& values = result_.values;
    if (path == "run.name") {
      *from = "the file's name";
      return options_.run_name;
    }
    if (path == "data.root") {
      *from = "$DTRAIN_DATA, else data";
      return options_.data_root;
    }
    if (path == "train.early_stop.mode" || path == "checkpoint.keep_best.mode") {
      *from = "the metric's name";
      const std::string metric = values.String(Cat(path.substr(0, path.rfind('.')), ".metric"), "");
      return metric.ends_with("loss") || metric.ends_with("error") ? "min" : "max";
    }
    *from = "optim.type";
    const std::string type = values.String("optim.type", "");
    if (path == "optim.lr") return type == "sgd" ? 0.05 : type == "adagrad" || type == "rmsprop" ? 0.01 : 0.001;
    if (path == "optim.eps") return type == "adagrad" ? 1e-10 : 1e-8;
    if (path == "optim.weight_decay") return type == "adamw" ? 0.01 : 0.0;
    return {};
  }

  void RefuseMeaningless(const Key& key) {
    const auto given = result_.given.find(key.path);
    if (given == result_.given.end()) return;
    const Value value = result_.values.At(key.path);
    Value section = result_.values.At(key.section());
    if (Value::Map* map = section.if_map()) {  // none where all that was given failed
      map->erase(std::string(key.name()));
      result_.values.Set(key.section(), std::move(section));
    }
    // A default written out says nothing, so it contradicts nothing.
    if (!key.default_value.empty() && value == DefaultOf(key)) return;
    const size_t equals = key.only_for.find('=');
    const std::string decides = key.only_for.substr(0, equals);
    if (failed_.contains(key.path) || failed_.contains(decides) || !key.unavailable.empty()) return;
    std::vector<std::string> types = Split(std::string_view(key.only_for).substr(equals + 1), '|');
    const Value& type = result_.values.At(decides);
    Report(*given->second,
           Cat(key.path, ": found ", FormatValue(&key, value), " with ", decides, ": ",
               type.is_null() ? "null" : FormatValue(nullptr, type), ", expected only with ", dtrain::Join(types, ", "), "; leave it out"));
  }

  // --- what does not go --------------------------------------------------------------------------------------------------

  void CheckAvailable() {
    for (const Key& key : Keys()) {
      const Value& value = result_.values.At(key.path);
      if (key.unavailable.empty() || failed_.contains(key.path) || !result_.given.contains(key.path)) continue;
      const std::string text = FormatValue(&key, value);
      const auto words = Split(key.unavailable, '|');
      const bool is_listed = std::find(words.begin(), words.end(), text) != words.end();
      if (is_listed || (key.unavailable == "*" && value != DefaultOf(key))) {
        Blame(key.path, Cat("found ", text, ": not available in this version; leave it at ", key.default_value));
      }
    }
  }

  // A mistake of `path`, at its place if it was given.
  void Blame(const std::string& path, std::string_view text) {
    const auto given = result_.given.find(path);
    const YamlNode nowhere;
    Report(given == result_.given.end() ? nowhere : *given->second, Cat(path, ": ", text));
  }

  // Whether none of them was refused already: a rule about values that are not there would only mislead.
  bool AllRead(std::initializer_list<const char*> paths) const {
    return std::none_of(paths.begin(), paths.end(), [&](const char* path) { return failed_.contains(path); });
  }

  // A span that was checked before; steps 0 for a word or nothing.
  TrainingSpan Span(std::string_view path) const {
    const auto* text = result_.values.At(path).if_string();
    const auto span = text == nullptr ? StatusOr<TrainingSpan>(TrainingSpan{}) : ParseTrainingSpan(*text);
    return span.value_or(TrainingSpan{});
  }

  void CheckRules() {
    CheckNames();
    CheckBatch();
    CheckOptimizer();
    CheckTraining();
    CheckMetrics();
    CheckStrategyAndLog();
  }

  void CheckNames() {
    const std::string name = result_.values.String("run.name", "");
    const bool is_name = !name.empty() && name != "." && name != ".." && name.size() <= kRunNameBytesMax &&
                         name.find('/') == std::string::npos &&
                         std::none_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
    if (!is_name && AllRead({"run.name"})) {
      Blame("run.name", Cat("found ", Shown(name), ", expected the name of a directory: 1 to ", kRunNameBytesMax, " bytes, no slash"));
    }
    for (const char* path : {"run.dir", "data.root", "model.type", "data.dataset", "data.path"}) {
      const auto* text = result_.values.At(path).if_string();
      if (text != nullptr && text->empty()) Blame(path, "found '', expected a name");
    }
    const std::string delimiter = result_.values.String("data.delimiter", ",");
    if (delimiter != "tab" && delimiter.size() != 1 && !IsOwn("data")) {
      Blame("data.delimiter", Cat("found ", Shown(delimiter), ", expected one character or tab"));
    }
    if (const auto* shape = result_.values.At("data.shape").if_list(); shape != nullptr && shape->empty() && !IsOwn("data")) {
      Blame("data.shape", "found an empty list, expected the size of each dimension");
    }
  }

  void CheckBatch() {
    if (!AllRead({"run.reproducible", "data.batch", "data.batch.global", "data.batch.per_rank", "data.batch.accumulation",
                  "data.batch.micro_batches"})) {
      return;
    }
    const Status status = CheckBatchRequest(BatchRequestOf(result_.values));
    if (!status.ok()) {
      const std::string message = Message(status);
      const size_t colon = message.find(": ");
      Blame(message.substr(0, colon), message.substr(colon + 2));
    }
    // One process or many: a step has this many samples if nothing else is said.
    const auto is_null = [&](const char* path) { return result_.values.At(path).is_null(); };
    if (is_null("data.batch.global") && is_null("data.batch.per_rank") && is_null("data.batch.accumulation")) {
      result_.values.Set("data.batch.global", kGlobalBatchDefault);
      result_.derived["data.batch.global"] = "per_rank is null too";
    }
  }

  void CheckOptimizer() {
    const Value& values = result_.values;
    if (AllRead({"optim.nesterov", "optim.momentum", "optim.dampening"}) && values.Bool("optim.nesterov", false) &&
        (values.Double("optim.momentum", 0) == 0 || values.Double("optim.dampening", 0) != 0)) {
      Blame("optim.nesterov", "found true, expected optim.momentum > 0 and optim.dampening 0 beside it");
    }
    if (AllRead({"optim.dampening", "optim.momentum"}) && values.Double("optim.dampening", 0) != 0 &&
        values.Double("optim.momentum", 0) == 0) {
      Blame("optim.dampening",
            Cat("found ", values.Double("optim.dampening", 0), " without momentum, expected optim.momentum > 0 beside it"));
    }
    const TrainingSpan warmup = Span("optim.schedule.warmup"), duration = Span("train.duration");
    if (AllRead({"optim.schedule.warmup", "train.duration"}) && warmup.unit == duration.unit && warmup.amount >= duration.amount &&
        warmup.amount > 0) {
      Blame("optim.schedule.warmup",
            Cat("found ", FormatTrainingSpan(warmup), ", expected less than train.duration: ", FormatTrainingSpan(duration)));
    }
    if (AllRead({"train.duration", "optim.schedule.type"}) && duration.is_time() && values.String("optim.schedule.type", "") == "cosine") {
      Blame("train.duration", Cat("found ", FormatTrainingSpan(duration),
                                  " with optim.schedule.type: cosine, expected epochs or steps; the end of the curve must be known"));
    }
  }

  void CheckTraining() {
    const Value& values = result_.values;
    const TrainingSpan duration = Span("train.duration");
    if (AllRead({"train.duration", "run.reproducible"}) && values.Bool("run.reproducible", false) && duration.is_time()) {
      Blame("train.duration", Cat("found ", FormatTrainingSpan(duration),
                                  " with run.reproducible: true, expected epochs or steps; the clock is never the same twice"));
    }
    const auto* weights = values.At("train.class_weights").if_list();
    if (weights == nullptr || !AllRead({"train.class_weights", "train.loss"})) return;
    if (std::all_of(weights->begin(), weights->end(), [](const Value& weight) { return weight.Double("", 0) == 0; })) {
      Blame("train.class_weights",
            Cat("found ", values.At("train.class_weights").ToJson(), ", expected one weight a class, at least one above 0"));
    }
    if (values.String("train.loss", "") == "mse") {
      Blame("train.class_weights", "found weights with train.loss: mse, expected null; a regression has no classes");
    }
  }

  void CheckMetrics() {
    const Value& values = result_.values;
    if (!AllRead({"eval.every"})) return;
    const bool never = values.String("eval.every", "") == "never";
    for (const char* section : {"train.early_stop", "checkpoint.keep_best"}) {
      const std::string metric = values.String(Cat(section, ".metric"), "");
      if (never && metric.starts_with("valid")) {
        Blame("eval.every", Cat("found never, expected a duration: ", section, " goes by ", metric));
      }
    }
    const TrainingSpan every = Span("eval.every");
    if (values.Bool("run.reproducible", false) && !values.At("train.early_stop").is_null() && every.is_time() &&
        AllRead({"run.reproducible"})) {
      Blame("eval.every",
            Cat("found ", FormatTrainingSpan(every), " with run.reproducible: true and train.early_stop, expected epochs or steps"));
    }
  }

  void CheckStrategyAndLog() {
    const Value& values = result_.values;
    const double deadline_s = values.Double("strategy.deadline", 0), stall_s = values.Double("strategy.stall", 0);
    if (AllRead({"strategy.deadline", "strategy.stall"}) && stall_s < deadline_s) {
      Blame("strategy.stall",
            Cat("found ", FormatTrainingSpan({stall_s, TrainingSpan::Unit::kSeconds}),
                ", expected no less than strategy.deadline: ", FormatTrainingSpan({deadline_s, TrainingSpan::Unit::kSeconds})));
    }
    const Value& steps = values.At("log.trace.steps");
    if (const auto* list = steps.if_list(); list != nullptr && AllRead({"log.trace.steps"})) {
      if (list->size() != 2 || (*list)[0].Int("", 0) >= (*list)[1].Int("", 0)) {
        Blame("log.trace.steps", Cat("found ", steps.ToJson(), ", expected two steps, the first below the second"));
      }
    }
  }

  const YamlNode& root_;
  const CheckOptions options_;
  CheckResult result_;
  std::set<std::string, std::less<>> failed_;  // given, but refused
};

}  // namespace

CheckResult CheckConfig(const YamlNode& root, const CheckOptions& options) { return Checker(root, options).Run(); }

}  // namespace dtrain
