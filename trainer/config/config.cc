#include "trainer/config/config.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <tuple>

#include "base/digest.h"
#include "base/text.h"
#include "trainer/config/keys.h"
#include "trainer/config/scalar.h"
#include "trainer/config/yaml_reader.h"

namespace dtrain {
namespace {

constexpr size_t kOverrideDepthMax = 8;
constexpr size_t kProblemsShownMax = 100;

StatusOr<std::string> ReadText(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return WithHint(NotFound("read configuration ", path, ": no such file"), "ready ones lie in configs/, such as configs/quickstart.yaml");
  }
  if (!std::filesystem::is_regular_file(status)) return InvalidArgument("read configuration ", path, ": it is no file");
  std::ifstream file(path, std::ios::binary);
  std::string text(kYamlBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof())) return PermissionDenied("read configuration ", path, ": it cannot be read");
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

void SetSource(int source, YamlNode* node) {
  node->source = source;
  for (YamlNode& item : node->items) SetSource(source, &item);
  for (YamlEntry& entry : node->entries) SetSource(source, &entry.value);
}

// Puts `value` into the tree. What stands on the way and is no map stays; the check of the tree refuses it.
void Put(const std::vector<std::string>& path, YamlNode value, YamlNode* root) {
  YamlNode* node = root;
  for (size_t i = 0; i < path.size(); ++i) {
    if (node->kind == YamlNode::Kind::kNull) *node = {.kind = YamlNode::Kind::kMap, .at = value.at, .source = value.source};
    if (node->kind != YamlNode::Kind::kMap) return;
    if (node->Find(path[i]) == nullptr)
      node->entries.push_back({.key = path[i], .at = value.at, .value = {.at = value.at, .source = value.source}});
    node = &node->Find(path[i])->value;
  }
  *node = std::move(value);
}

void Remove(std::vector<std::string> path, YamlNode* root) {
  const std::string name = path.back();
  path.pop_back();
  YamlNode* node = root;
  for (const std::string& part : path) {
    YamlEntry* entry = node->Find(part);
    if (entry == nullptr) return;
    node = &entry->value;
  }
  std::erase_if(node->entries, [&](const YamlEntry& entry) { return entry.key == name; });
}

// Word `source` - 1 of the command line.
void ApplyOverride(const std::string& word, int source, YamlNode* root, std::vector<ConfigProblem>* problems) {
  const size_t equals = word.find('=');
  const std::vector<std::string> path = Split(std::string_view(word).substr(0, equals), '.');
  const bool has_names = std::none_of(path.begin(), path.end(), [](const std::string& name) { return name.empty(); });
  if (equals == std::string::npos || equals + 1 == word.size() || !has_names || path.size() > kOverrideDepthMax) {
    problems->push_back({source, {}, Cat("found ", Shown(word), ", expected key=value, such as optim.lr=0.1")});
    return;
  }
  YamlResult value = ReadYaml(std::string_view(word).substr(equals + 1));
  for (const YamlProblem& problem : value.problems) {
    problems->push_back({source, {}, Cat(Shown(word.substr(0, equals)), ": found ", Shown(word.substr(equals + 1)), ": ", problem.text)});
  }
  SetSource(source, &value.root);
  const Key* key = FindKey(word.substr(0, equals));
  if (value.root.kind == YamlNode::Kind::kNull && key != nullptr && !key->nullable) {
    Remove(path, root);
  } else {
    Put(path, std::move(value.root), root);
  }
}

// What errors and origins call the place of a node.
std::string Where(const std::string& file, int source, const YamlMark& at) {
  if (source > 0) return "command line";
  return at.line == 0 ? file : Cat(file, ":", at.line, ":", at.column);
}

Status Refused(const std::string& file, std::vector<ConfigProblem> problems, bool has_overrides) {
  // In order of place; what has none in the file comes behind it, the command line last.
  std::stable_sort(problems.begin(), problems.end(), [](const ConfigProblem& a, const ConfigProblem& b) {
    return std::tuple(a.source, a.at.line == 0, a.at.line, a.at.column) < std::tuple(b.source, b.at.line == 0, b.at.line, b.at.column);
  });
  std::string message;
  for (size_t i = 0; i < std::min(problems.size(), kProblemsShownMax); ++i) {
    message += Cat(Where(file, problems[i].source, problems[i].at), ": ", problems[i].text, "\n");
  }
  if (problems.size() > kProblemsShownMax) message += Cat("(", problems.size() - kProblemsShownMax, " more)\n");
  message +=
      Cat(problems.size(), problems.size() == 1 ? " mistake in " : " mistakes in ", file, has_overrides ? " and the command line" : "");
  return WithExitCode(InvalidArgument(message), ExitCode::kConfiguration);
}

// Names of the entries of `map`, those of the table first and in its order.
std::vector<std::string> OrderedNames(const std::string& section, const Value::Map& map) {
  std::vector<std::string> names;
  for (const Key* key : KeysOf(section)) {
    if (map.contains(key->name())) names.emplace_back(key->name());
  }
  for (const auto& [name, value] : map) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

std::string Path(const std::string& section, const std::string& name) { return section.empty() ? name : Cat(section, ".", name); }

void AppendPaths(const std::string& section, const Value& values, std::vector<std::string>* paths) {
  for (const std::string& name : OrderedNames(section, *values.if_map())) {
    const std::string path = Path(section, name);
    const Value& value = values.At(name);
    const Key* key = FindKey(path);
    if (key != nullptr && key->type == KeyType::kSection && value.if_map() != nullptr) {
      AppendPaths(path, value, paths);
    } else {
      paths->push_back(path);
    }
  }
}

// The key that stands for `path` in the table; null for one of the user's own.
bool BearsOnResult(const Key* key) { return key == nullptr || key->in_hash; }
bool MayChange(const Key* key) { return key != nullptr && key->may_change; }

void AppendYaml(const Config& config, const std::string& section, const Value& values, bool minimal, int indent, std::string* out) {
  for (const std::string& name : OrderedNames(section, *values.if_map())) {
    const std::string path = Path(section, name);
    const Value& value = values.At(name);
    const Key* key = FindKey(path);
    const std::string margin(static_cast<size_t>(indent), ' ');
    if (key != nullptr && key->type == KeyType::kSection && value.if_map() != nullptr) {
      std::string inner;
      AppendYaml(config, path, value, minimal, indent + 2, &inner);
      if (!inner.empty()) *out += Cat(margin, name, ":\n", inner);
      continue;
    }
    const auto origin = config.origins.find(path);
    const bool was_set =
        origin != config.origins.end() && (origin->second.kind == Origin::kFile || origin->second.kind == Origin::kCommandLine);
    if (!minimal || was_set) *out += Cat(margin, name, ": ", FormatValue(key, value), "\n");
  }
}

}  // namespace

StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides, ConfigUse use) {
  const auto text = ReadText(path);
  if (!text.ok()) return WithExitCode(text.status(), ExitCode::kConfiguration);
  return ParseConfig(*text, path, overrides, use);
}

StatusOr<Config> ParseConfig(std::string_view text, const std::string& source, std::span<const std::string> overrides, ConfigUse use) {
  YamlResult file = ReadYaml(text);
  std::vector<ConfigProblem> problems;
  for (YamlProblem& problem : file.problems) problems.push_back({0, problem.at, std::move(problem.text)});
  for (size_t i = 0; i < overrides.size(); ++i) ApplyOverride(overrides[i], static_cast<int>(i) + 1, &file.root, &problems);

  const char* root = std::getenv("DTRAIN_DATA");
  const bool has_root = root != nullptr && *root != '\0';
  CheckResult checked = CheckConfig(
      file.root, {.use = use, .run_name = std::filesystem::path(source).stem().string(), .data_root = has_root ? root : "data"});
  problems.insert(problems.end(), checked.problems.begin(), checked.problems.end());
  if (!problems.empty()) return Refused(source, std::move(problems), !overrides.empty());

  Config config = {.values = std::move(checked.values), .source_text = std::string(text)};
  for (const std::string& path : KeyPaths(config.values)) {
    const auto given = checked.given.find(path);
    const auto derived = checked.derived.find(path);
    Origin& origin = config.origins[path];
    if (derived != checked.derived.end()) {
      origin = {Origin::kDerived, derived->second};
    } else if (given != checked.given.end()) {
      origin = {given->second->source > 0 ? Origin::kCommandLine : Origin::kFile, Where(source, given->second->source, given->second->at)};
    }
  }
  config.name = config.values.String("run.name", "");
  return config;
}

std::vector<std::string> KeyPaths(const Value& values) {
  std::vector<std::string> paths;
  if (values.if_map() != nullptr) AppendPaths("", values, &paths);
  return paths;
}

std::string ToYaml(const Config& config, bool minimal) {
  std::string out;
  AppendYaml(config, "", config.values, minimal, 0, &out);
  return out;
}

std::string ConfigHash(const Config& config) {
  std::string text;
  for (const std::string& path : KeyPaths(config.values)) {
    if (BearsOnResult(FindKey(path))) text += Cat(path, "=", config.values.At(path).ToJson(), "\n");
  }
  return Sha256Hex(std::as_bytes(std::span(text)));
}

namespace {

// Calls visit(path, key, value in `before`, value in `after`) for each key that differs. Of a section that is null in one of the two,
// its keys tell the difference in the other.
template <typename Visit>
void ForDifferences(const Value& before, const Value& after, const Visit& visit) {
  std::vector<std::string> paths = KeyPaths(after);
  for (const std::string& path : KeyPaths(before)) {
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
  }
  for (const std::string& path : paths) {
    const Key* key = FindKey(path);
    if (before.At(path) == after.At(path) || (key != nullptr && key->type == KeyType::kSection)) continue;
    visit(path, key, before.At(path), after.At(path));
  }
}

}  // namespace

std::vector<std::string> ResumeDifferences(const Value& saved, const Value& now) {
  std::vector<std::string> differences;
  ForDifferences(saved, now, [&](const std::string& path, const Key* key, const Value& before, const Value& after) {
    if (!MayChange(key)) differences.push_back(Cat(path, ": was ", FormatValue(key, before), ", now ", FormatValue(key, after)));
  });
  return differences;
}

std::vector<std::string> RankDifferences(const Value& first, const Value& mine) {
  std::vector<std::string> differences;
  ForDifferences(first, mine, [&](const std::string& path, const Key* key, const Value& theirs, const Value& ours) {
    if (path == "run.dir" || path.starts_with("log.") || std::ranges::find(kOfTheHost, path) != kOfTheHost.end()) return;
    differences.push_back(Cat(path, " is ", FormatValue(key, ours), ", on rank 0 ", FormatValue(key, theirs)));
  });
  return differences;
}

}  // namespace dtrain
