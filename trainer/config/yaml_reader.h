// YAML text as a tree in which every node knows where it stands, so that an error can say so. Nothing is interpreted: a
// scalar is its text; what it means is the table's matter (keys.h). The only place that knows yaml-cpp.
// YAML is restricted to what a configuration needs and what cannot surprise: one document, no anchors, aliases, merge
// keys or tags, no key twice. Safe to call from any thread.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain {

inline constexpr size_t kYamlBytesMax = size_t{1} << 20;
inline constexpr int kYamlDepthMax = 32;
inline constexpr size_t kYamlKeysMax = 1000;  // of one map

// Where something stands, both from 1, columns in characters; line 0 for what has no place in a text.
struct YamlMark {
  int line = 0, column = 0;
  bool operator==(const YamlMark&) const = default;
};

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  YamlMark at;
  std::string text;                // of a scalar
  bool quoted = false;             // of a scalar: then it is text whatever it looks like
  std::vector<YamlNode> items;     // of a list
  std::vector<YamlEntry> entries;  // of a map, in the order of the text
  int source = 0;                  // for the caller's use: which of several texts the node comes from

  const YamlEntry* Find(std::string_view key) const;
  YamlEntry* Find(std::string_view key);
};

struct YamlEntry {
  std::string key;
  YamlMark at;
  YamlNode value;
};

struct YamlProblem {
  YamlMark at;
  std::string text;
};

struct YamlResult {
  YamlNode root;                      // what could be read; for a duplicate key the first value
  std::vector<YamlProblem> problems;  // empty if all is well
};

// Empty text is null. Never fails otherwise than by `problems`.
YamlResult ReadYaml(std::string_view text);

}  // namespace dtrain
