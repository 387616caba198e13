#include "trainer/cli/cli.h"
#include "trainer/config/render.h"

namespace dtrain {

StatusOr<ExitCode> ConfigVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram&) {
  const std::string what = arguments.words().empty() ? "" : arguments.words()[0];
  if (what == "keys") {
    const std::string section = arguments.words().size() > 1 ? arguments.words()[1] : "";
    const std::string text = arguments.Has("reference") ? RenderReference() : RenderKeys(section);
    if (text.empty()) return UsageError(spec, Cat("no section or key '", section, "'; dtrain config keys lists them all"));
    Print(text);
    return ExitCode::kDone;
  }
  if (what == "schema") {
    Print(RenderSchema());
    return ExitCode::kDone;
  }
  if (what != "show" && what != "check") return UsageError(spec, Cat("found '", what, "', expected show, keys, schema or check"));
  ASSIGN_OR_RETURN(const Config config, ConfigOf(arguments, spec, 1));
  if (what == "check") {
    Print(Cat(arguments.words()[1], ": no mistakes\n"));
  } else if (arguments.json()) {
    Print(config.values.ToJson() + "\n");
  } else if (arguments.Has("origin")) {
    Print(RenderConfig(config, true));
  } else {
    Print(ToYaml(config, arguments.Has("minimal")));
  }
  return ExitCode::kDone;
}

}  // namespace dtrain
