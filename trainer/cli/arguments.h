// The words of a command line as a verb's options, by cxxopts. Errors are usage errors (exit code 2).
#pragma once
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace dtrain {

struct OptionSpec {
  std::string flags;  // "n,ranks"; a long name, with a letter before it where there is one
  std::string value;  // what it takes, for the help: "N"; empty for a switch
  std::string help;
};

// One verb: what its help says and what it takes. --json, -q, -v and -h are added to every verb.
struct VerbSpec {
  std::string name;
  std::string words;  // "CONFIG [key=value ...]"
  std::string about;
  std::vector<OptionSpec> options;
  std::string examples;  // lines, may be empty
};

class Arguments {
 public:
  static StatusOr<Arguments> Parse(const VerbSpec& verb, std::span<const std::string> words);

  bool Has(const std::string& option) const { return values_.contains(option); }
  std::string Get(const std::string& option, const std::string& otherwise = "") const;
  // An integer in [min, max].
  StatusOr<int64_t> Int(const std::string& option, int64_t otherwise, int64_t min, int64_t max) const;
  const std::vector<std::string>& words() const { return words_; }          // without '='
  const std::vector<std::string>& overrides() const { return overrides_; }  // key=value
  bool json() const { return Has("json"); }
  bool quiet() const { return Has("quiet"); }
  bool verbose() const { return Has("verbose"); }

 private:
  std::map<std::string, std::string> values_;
  std::vector<std::string> words_, overrides_;
};

std::string VerbHelp(const VerbSpec& verb);

// A usage error with a pointer to the verb's help.
Status UsageError(const VerbSpec& verb, std::string_view message);

}  // namespace dtrain
