// The configuration of a run: what the YAML file and the words of the command line say, checked against the table of keys
// (keys.h), with defaults filled in. For the trainer, the command line and the public API. No state; safe to call from
// any thread.
#pragma once
#include <array>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/value.h"
#include "trainer/config/check.h"

namespace dtrain {

// Who set a key.
struct Origin {
  enum Kind { kDefault, kFile, kCommandLine, kDerived } kind = kDefault;
  std::string where;  // "fashion.yaml:7:15", "command line", "optim.type"; empty for a default
  bool operator==(const Origin&) const = default;
};

struct Config {
  // Every key that has a meaning, in the types that keys.h says. Absent: keys of other types (momentum of adam, servers of
  // a ring) and those under an optional section that is null (train.early_stop).
  Value values;
  std::map<std::string, Origin> origins;  // one for each path of KeyPaths(values)
  std::string name;                       // run.name
  std::string source_text;                // the file as given
};

// Reads the file at `path` and then `overrides` ("optim.lr=0.1"; the value is YAML, "null" takes a key of the file away).
// kInvalidArgument (exit code kConfiguration) holds all mistakes, one a line in order of place,
// "file:line:column: key: found ..., expected ...; hint", and their number. kNotFound if there is no such file.
StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides, ConfigUse use = ConfigUse::kTrain);

// The same for a text; `source` is what errors and origins call it. run.name defaults to the stem of `source`.
StatusOr<Config> ParseConfig(std::string_view text, const std::string& source, std::span<const std::string> overrides,
                             ConfigUse use = ConfigUse::kTrain);

// The paths of all values (not of sections, but of an optional section that is null) in the order of the table, keys of the
// user's own behind those of their section.
std::vector<std::string> KeyPaths(const Value& values);

// YAML that reads back with equal values: of all keys, or (`minimal`) of those that file and command line set.
std::string ToYaml(const Config& config, bool minimal);

// SHA-256 over the keys that bear on the result: not log.*, names, places, nor how the work is done.
std::string ConfigHash(const Config& config);

// "optim.lr: was 0.1, now 0.05" for each key that changed and may not on a resume; empty if all is well.
std::vector<std::string> ResumeDifferences(const Value& saved, const Value& now);

// Keys that each rank of a job takes from its own configuration: where things are on its host.
inline constexpr std::array<const char*, 2> kOfTheHost = {"data.root", "strategy.interface"};

// What differs between rank 0's configuration and that of another rank of the same job: everything but what is the host's own, the
// run directory and what is logged, which are rank 0's matter.
std::vector<std::string> RankDifferences(const Value& first, const Value& mine);

}  // namespace dtrain
