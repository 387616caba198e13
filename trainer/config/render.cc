#include "trainer/config/render.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "trainer/config/keys.h"
#include "trainer/config/scalar.h"

namespace dtrain {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSpanPattern = R"(^([0-9]+(\.[0-9]+)?(ep|h|min|s|ms)|[0-9]+st)$)";
constexpr const char* kSpanWithoutTimePattern = R"(^([0-9]+(\.[0-9]+)?ep|[0-9]+st)$)";
constexpr const char* kTimePattern = R"(^[0-9]+(\.[0-9]+)?(h|min|s|ms)$)";
constexpr const char* kBytesPattern = "^[0-9]+(B|kB|KB|MB|GB|KiB|MiB|GiB)$";

// "sgd, rmsprop" of a key for certain types only; what decides goes to `*decides`.
std::string OnlyFor(const Key& key, std::string* decides) {
  if (key.only_for.empty()) return "";
  const size_t equals = key.only_for.find('=');
  *decides = key.only_for.substr(0, equals);
  return Join(Split(std::string_view(key.only_for).substr(equals + 1), '|'), ", ");
}

std::string DefaultText(const Key& key) { return key.default_value.empty() ? key.derived : key.default_value; }

std::string Availability(const Key& key) {
  if (key.unavailable.empty()) return "";
  if (key.unavailable == "*") return "not available in this version";
  return Cat(Join(Split(key.unavailable, '|'), ", "), " not available in this version");
}

// All that is to be said of a key in words.
std::string HelpText(const Key& key) {
  std::string decides;
  const std::string types = OnlyFor(key, &decides);
  std::string help = key.help;
  if (!key.unit.empty()) help += Cat(" [", key.unit, "]");
  if (!types.empty()) help += Cat(" (only with ", decides, ": ", types, ")");
  if (const std::string availability = Availability(key); !availability.empty()) help += Cat(" (", availability, ")");
  return help;
}

bool IsUnder(const Key& key, std::string_view section) {
  return section.empty() || key.path == section || key.path.starts_with(Cat(section, "."));
}

void PutRange(const Key& key, Json* schema) {
  // Whole bounds as integers: 0, not 0.0.
  const auto number = [](double bound) { return bound == std::floor(bound) ? Json(static_cast<int64_t>(bound)) : Json(bound); };
  if (std::isfinite(key.min)) (*schema)[key.above_min ? "exclusiveMinimum" : "minimum"] = number(key.min);
  if (std::isfinite(key.max)) (*schema)[key.below_max ? "exclusiveMaximum" : "maximum"] = number(key.max);
}

Json ListOf(Json item) { return {{"type", "array"}, {"items", std::move(item)}}; }

// What the type alone takes; null for a kWord.
Json TypeSchema(const Key& key) {
  const auto text = [](const char* pattern) { return Json{{"type", "string"}, {"pattern", pattern}}; };
  const auto ranged = [&](const char* type) {
    Json schema = {{"type", type}};
    PutRange(key, &schema);
    return schema;
  };
  const Json span = text(key.no_time ? kSpanWithoutTimePattern : kSpanPattern);
  switch (key.type) {
    case KeyType::kSection:
    case KeyType::kWord:
      return nullptr;
    case KeyType::kBool:
      return {{"type", "boolean"}};
    case KeyType::kInt:
      return ranged("integer");
    case KeyType::kNumber:
      return ranged("number");
    // A plain 10 is a text where a text is wanted, a column's number for example.
    case KeyType::kText:
      return {{"type", Json::array({"string", "number", "boolean"})}};
    case KeyType::kBytes:
      return text(kBytesPattern);
    case KeyType::kTime:
      return text(kTimePattern);
    case KeyType::kSpan:
      return span;
    case KeyType::kSpans: {
      Json list = ListOf(span);
      list["minItems"] = 1;
      return {{"anyOf", Json::array({span, list})}};
    }
    case KeyType::kInts:
      return {{"anyOf", Json::array({ranged("integer"), ListOf(ranged("integer"))})}};
    case KeyType::kNumbers:
      return {{"anyOf", Json::array({ranged("number"), ListOf(ranged("number"))})}};
    case KeyType::kTexts:
      return {{"anyOf", Json::array({Json{{"type", "string"}}, ListOf({{"type", "string"}})})}};
    case KeyType::kMaps:
      return ListOf({{"type", "object"}});
  }
  return nullptr;
}

Json KeySchema(const Key& key);

Json SectionSchema(std::string_view section) {
  Json properties = Json::object();
  for (const Key* key : KeysOf(section)) properties[std::string(key->name())] = KeySchema(*key);
  Json schema = {{"type", "object"}, {"properties", std::move(properties)}};
  // Models and data sets of the user's own have keys of their own.
  schema["additionalProperties"] = !OwnTypeKey(section).empty();
  return schema;
}

Json KeySchema(const Key& key) {
  Json choices = Json::array();
  if (key.type == KeyType::kSection) {
    choices.push_back(SectionSchema(key.path));
  } else if (const Json type = TypeSchema(key); !type.is_null()) {
    choices.push_back(type);
  }
  if (!key.words.empty()) choices.push_back({{"enum", Split(key.words, '|')}});
  // An empty section ("eval:") is a null; so is a key taken away.
  if (key.nullable || key.type == KeyType::kSection) choices.push_back({{"type", "null"}});
  Json schema = {{"description", HelpText(key)}};
  if (choices.size() == 1) {
    schema.update(choices[0]);
  } else {
    schema["anyOf"] = std::move(choices);
  }
  return schema;
}

// A cell of a table must not end it.
std::string Cell(std::string_view text) {
  std::string cell;
  for (const char c : text) cell += c == '|' ? std::string("\\|") : std::string(1, c);
  return cell;
}

void AppendReferenceRow(const Key& key, std::string* page) {
  std::string default_text = key.default_value.empty() ? key.derived : Cat("`", key.default_value, "`");
  *page += Cat("| `", key.path, "` | ", Cell(Expected(key)), " | ", Cell(default_text), " | ", Cell(HelpText(key)), " | ",
               key.may_change ? "yes" : "no", " |\n");
}

constexpr const char* kReferenceHead = R"(# Configuration

This page is made from the table of keys in `trainer/config/keys.cc` (`dtrain config reference`); change it there.

A run is described by one YAML file; words on the command line (`optim.lr=0.1`) override it, and `key=null` takes a key of
the file away. A mistake stops the run before it starts: unknown and duplicate keys, wrong types and units, values out of range
and contradictions are all reported at once, each with file, line and column. `dtrain config show --origin FILE` tells who set
what; `dtrain config schema` prints a JSON schema for editors.

Durations are a number and a unit in one word: `10ep` (epochs), `5000st` (steps), `2h`, `10min`, `90s`, `500ms`. Sizes
are `512kB`, `4MB`, `1GB`, in powers of 1024. Anchors, aliases, merge keys and tags of YAML are not taken.

For a model or a data set of your own, `model:` and `data:` take any further key that holds a scalar or a list; the maker of
the model or data set gets them.

A resumed run may differ from its checkpoint in the keys marked so in the last column.

## Samples of a step

`global = ranks x per_rank x accumulation`: any two of `data.batch.global`, `data.batch.per_rank` and `data.batch.accumulation`
give the third; `global` alone has accumulation 1, `per_rank` alone too; with none of them `global` is 64. What does not come out whole
is refused with the nearest values that do. With `run.reproducible: true` only `global` may be given: it is cut into
`data.batch.micro_batches` leaves, which are spread over the ranks, so that the number of ranks does not change the result.
)";

}  // namespace

std::string RenderKeys(std::string_view section) {
  size_t path_width = 0;
  for (const Key& key : Keys()) path_width = std::max(path_width, IsUnder(key, section) ? key.path.size() : 0);
  std::string text;
  for (const Key& key : Keys()) {
    if (!IsUnder(key, section)) continue;
    const std::string pad(path_width - key.path.size() + 2, ' ');
    if (key.type == KeyType::kSection) {
      text += Cat(text.empty() ? "" : "\n", key.path, pad, key.help, "\n");
    } else {
      text +=
          Cat(key.path, pad, HelpText(key), "\n", std::string(path_width + 4, ' '), Expected(key), "; default: ", DefaultText(key), "\n");
    }
  }
  return text;
}

std::string RenderSchema() {
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "dtrain configuration"}};
  schema.update(SectionSchema(""));
  return schema.dump(2) + "\n";
}

std::string RenderReference() {
  std::string page = kReferenceHead;
  for (const Key* section : KeysOf("")) {
    page += Cat("\n## ", section->path, "\n\n", section->help,
                ".\n\n| key | takes | default | meaning | may change on resume |\n|---|---|---|---|---|\n");
    for (const Key& key : Keys()) {
      if (key.path == section->path || !IsUnder(key, section->path)) continue;
      // A section that is always there has nothing to take.
      if (key.type != KeyType::kSection || key.nullable) AppendReferenceRow(key, &page);
    }
  }
  return page;
}

std::string RenderConfig(const Config& config, bool origin) {
  const std::vector<std::string> paths = KeyPaths(config.values);
  std::vector<std::string> lines;
  size_t width = 0;
  for (const std::string& path : paths) {
    lines.push_back(Cat(path, " = ", FormatValue(FindKey(path), config.values.At(path))));
    width = std::max(width, lines.back().size());
  }
  std::string text;
  for (size_t i = 0; i < paths.size(); ++i) {
    text += lines[i];
    if (origin) {
      const Origin& from = config.origins.at(paths[i]);
      const bool is_derived = from.kind == Origin::kDerived;
      const std::string who = from.kind == Origin::kDefault ? "default" : Cat(is_derived ? "from " : "", from.where);
      text += Cat(std::string(width - lines[i].size() + 2, ' '), "# ", who);
    }
    text += '\n';
  }
  return text;
}

}  // namespace dtrain
