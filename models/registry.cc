#include <map>

#include "models/model.h"

namespace dtrain {
namespace {

std::map<std::string, ModelFactory>& Factories() {
  static std::map<std::string, ModelFactory> factories;
  return factories;
}

}  // namespace

bool RegisterModel(const std::string& type, ModelFactory factory) {
  Factories()[type] = std::move(factory);
  return true;
}

std::vector<std::string> ModelTypes() {
  std::vector<std::string> types;
  for (const auto& [type, factory] : Factories()) types.push_back(type);
  return types;
}

StatusOr<std::shared_ptr<Model>> MakeModel(const std::string& type, const ModelSettings& settings) {
  const auto factory = Factories().find(type);
  if (factory == Factories().end()) {
    const std::vector<std::string> types = ModelTypes();
    const auto nearest = Nearest(type, types);
    return WithHint(NotFound("make model '", type, "': no such type; expected one of ", Join(types, ", ")),
                    nearest ? Cat("did you mean '", *nearest, "'?") : "a model of your own registers with DTRAIN_REGISTER_MODEL");
  }
  return factory->second(settings);
}

}  // namespace dtrain
