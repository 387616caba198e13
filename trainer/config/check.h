// From a tree of text (yaml_reader.h) to the values of a configuration, by the table (keys.h) and the rules between keys.
// Goes on after a mistake, so that all are found at once. For config.cc; pure, safe to call from any thread.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/value.h"
#include "trainer/config/yaml_reader.h"

namespace dtrain {

// Who the configuration is for.
enum class ConfigUse {
  kTrain,    // dtrain's own loop: model.type and data.dataset must be there
  kOwnLoop,  // a loop of the user's own, who brings model and data himself
};

struct CheckOptions {
  ConfigUse use = ConfigUse::kTrain;
  std::string run_name;   // if run.name is not given
  std::string data_root;  // if data.root is not given
};

struct ConfigProblem {
  int source = 0;    // YamlNode::source
  YamlMark at;       // line 0 if nothing in the text is to blame
  std::string text;  // "optim.lr: found 'fast', expected a number > 0"
};

struct CheckResult {
  // Every key that has a meaning: as given, or its default. A key whose type does not fit the run (momentum of adam) is
  // absent, and so are the keys under an optional section that is null.
  Value values;
  std::map<std::string, const YamlNode*> given;  // by path; points into the tree
  std::map<std::string, std::string> derived;    // by path: what the value follows from
  std::vector<ConfigProblem> problems;           // in no order
};

CheckResult CheckConfig(const YamlNode& root, const CheckOptions& options);

}  // namespace dtrain
