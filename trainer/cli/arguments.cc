#include "trainer/cli/arguments.h"

// A comma belongs to its word: model.hidden=[64, 32].
#define CXXOPTS_VECTOR_DELIMITER '\0'
#include <algorithm>
#include <cxxopts.hpp>

namespace dtrain {
namespace {

std::vector<OptionSpec> AllOptions(const VerbSpec& verb) {
  std::vector<OptionSpec> options = verb.options;
  options.push_back({"json", "", "Print one JSON value for scripts"});
  options.push_back({"q,quiet", "", "Print warnings and errors only"});
  options.push_back({"v,verbose", "", "Print more"});
  options.push_back({"h,help", "", "Print this help"});
  return options;
}

std::string LongName(const OptionSpec& option) {
  return option.flags.substr(option.flags.find(',') + 1 == 0 ? 0 : option.flags.find(',') + 1);
}

}  // namespace

Status UsageError(const VerbSpec& verb, std::string_view message) {
  return WithExitCode(
      WithHint(InvalidArgument("dtrain ", verb.name, ": ", message), Cat("dtrain ", verb.name, " --help says what it takes")),
      ExitCode::kUsage);
}

StatusOr<Arguments> Arguments::Parse(const VerbSpec& verb, std::span<const std::string> words) {
  cxxopts::Options parser("dtrain " + verb.name);
  const std::vector<OptionSpec> options = AllOptions(verb);
  for (const OptionSpec& option : options) {
    if (option.value.empty()) {
      parser.add_options()(option.flags, option.help);
    } else {
      parser.add_options()(option.flags, option.help, cxxopts::value<std::string>());
    }
  }
  parser.add_options()("words", "", cxxopts::value<std::vector<std::string>>());
  parser.parse_positional({"words"});
  std::vector<const char*> pointers = {"dtrain"};
  for (const std::string& word : words) pointers.push_back(word.c_str());
  Arguments arguments;
  try {
    const auto parsed = parser.parse(static_cast<int>(pointers.size()), pointers.data());
    for (const OptionSpec& option : options) {
      const std::string name = LongName(option);
      if (parsed.count(name) == 0) continue;
      arguments.values_[name] = option.value.empty() ? "true" : parsed[name].as<std::string>();
    }
    if (parsed.count("words") > 0) {
      for (const std::string& word : parsed["words"].as<std::vector<std::string>>()) {
        (word.find('=') == std::string::npos ? arguments.words_ : arguments.overrides_).push_back(word);
      }
    }
  } catch (const std::exception& problem) {
    std::string message = problem.what();
    std::vector<std::string> names;
    for (const OptionSpec& option : options) names.push_back("--" + LongName(option));
    for (const std::string& word : words) {
      const std::string flag = word.substr(0, word.find('='));
      if (!flag.starts_with("--") || std::find(names.begin(), names.end(), flag) != names.end()) continue;
      if (const auto nearest = Nearest(flag, names)) message += Cat("; did you mean ", *nearest, "?");
    }
    return UsageError(verb, message);
  }
  return arguments;
}

std::string Arguments::Get(const std::string& option, const std::string& otherwise) const {
  const auto entry = values_.find(option);
  return entry == values_.end() ? otherwise : entry->second;
}

StatusOr<int64_t> Arguments::Int(const std::string& option, int64_t otherwise, int64_t min, int64_t max) const {
  if (!Has(option)) return otherwise;
  const auto number = ParseInt(Get(option));
  if (number && *number >= min && *number <= max) return *number;
  return WithExitCode(InvalidArgument("--", option, ": found '", Get(option), "', expected an integer from ", min, " to ", max),
                      ExitCode::kUsage);
}

std::string VerbHelp(const VerbSpec& verb) {
  std::string text = Cat("dtrain ", verb.name, " ", verb.words, "\n\n", verb.about, "\n\nOptions:\n");
  for (const OptionSpec& option : AllOptions(verb)) {
    const size_t comma = option.flags.find(',');
    std::string flags = comma == std::string::npos ? Cat("    --", option.flags)
                                                   : Cat("-", option.flags.substr(0, comma), ", --", option.flags.substr(comma + 1));
    if (!option.value.empty()) flags += Cat(" ", option.value);
    flags.resize(std::max<size_t>(flags.size() + 2, 26), ' ');
    text += Cat("  ", flags, option.help, "\n");
  }
  if (!verb.examples.empty()) text += Cat("\nExamples:\n", verb.examples);
  return text;
}

}  // namespace dtrain
