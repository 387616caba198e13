// What a model of the registry is: a LibTorch module from a batch of inputs to a batch of outputs. It knows nothing of
// distribution; the trainer wraps it.
#pragma once
#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/value.h"

namespace dtrain {

class Model : public torch::nn::Module {
 public:
  // inputs is (B, input_shape...); comes back as (B, outputs).
  virtual torch::Tensor forward(torch::Tensor inputs) = 0;
};

// What a model is made from.
struct ModelSettings {
  std::vector<int64_t> input_shape;  // of one sample
  int64_t outputs = 1;               // classes; 1 for a binary or regression target
  Value parameters;                  // the keys under `model:` of the configuration
};

// A status (kInvalidArgument) says which setting does not fit, what was found and what was expected.
using ModelFactory = std::function<StatusOr<std::shared_ptr<Model>>(const ModelSettings&)>;

// Makes a model of `type`. kNotFound names the types that exist, and the nearest one.
StatusOr<std::shared_ptr<Model>> MakeModel(const std::string& type, const ModelSettings& settings);
std::vector<std::string> ModelTypes();

// Adds a type; the last one under a name counts. Called by the macro before main.
bool RegisterModel(const std::string& type, ModelFactory factory);

}  // namespace dtrain

// DTRAIN_REGISTER_MODEL(mlp, MakeMlp): one line in the file of the model makes it a `model.type` of the configuration.
#define DTRAIN_REGISTER_MODEL(type, factory) \
  [[maybe_unused]] static const bool dtrain_registered_model_##type = ::dtrain::RegisterModel(#type, factory)
