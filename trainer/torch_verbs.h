// The verbs that compute with a model: eval, predict, inspect model.
#pragma once
#include <optional>
#include <span>
#include <string>

namespace dtrain {

// Runs the verb and returns its exit code; nothing if `words` are not for one of these verbs (or ask for help).
std::optional<int> TorchVerb(std::span<const std::string> words);

}  // namespace dtrain
