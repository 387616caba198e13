// Multi-layer perceptron: flatten, then for each hidden size a linear layer, optional batch normalisation, ReLU and
// optional dropout, then a linear layer to the outputs, with an optional ReLU behind it too.
#include <torch/nn/functional/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include "models/model.h"

namespace dtrain {
namespace {

class Mlp final : public Model {
 public:
  Mlp(int64_t inputs, const std::vector<int64_t>& hidden, int64_t outputs, double dropout, bool batch_norm, bool relu_output)
      : dropout_(dropout), relu_output_(relu_output) {
    int64_t width = inputs;
    for (const int64_t next : hidden) {
      const std::string number = std::to_string(linear_.size() + 1);
      linear_.push_back(register_module("fc" + number, torch::nn::Linear(width, next)));
      if (batch_norm) norm_.push_back(register_module("bn" + number, torch::nn::BatchNorm1d(next)));
      width = next;
    }
    linear_.push_back(register_module("fc" + std::to_string(linear_.size() + 1), torch::nn::Linear(width, outputs)));
  }

  torch::Tensor forward(torch::Tensor x) override {
    x = x.flatten(1);
    for (size_t layer = 0; layer + 1 < linear_.size(); ++layer) {
      x = linear_[layer]->forward(x);
      if (!norm_.empty()) x = norm_[layer]->forward(x);
      x = torch::relu(x);
      if (dropout_ > 0) x = torch::dropout(x, dropout_, is_training());
    }
    x = linear_.back()->forward(x);
    return relu_output_ ? torch::relu(x) : x;
  }

 private:
  std::vector<torch::nn::Linear> linear_;
  std::vector<torch::nn::BatchNorm1d> norm_;
  double dropout_;
  bool relu_output_;
};

StatusOr<std::shared_ptr<Model>> MakeMlp(const ModelSettings& settings) {
  const std::vector<int64_t> hidden = settings.parameters.Ints("hidden");
  for (const int64_t width : hidden) {
    if (width < 1) return InvalidArgument("make model 'mlp': model.hidden has a layer of ", width, "; expected at least 1");
  }
  int64_t inputs = 1;
  for (const int64_t size : settings.input_shape) inputs *= size;
  return std::make_shared<Mlp>(inputs, hidden, settings.outputs, settings.parameters.Double("dropout", 0),
                               settings.parameters.Bool("batch_norm", false), settings.parameters.Bool("relu_output", false));
}

DTRAIN_REGISTER_MODEL(mlp, MakeMlp);

// Logistic regression: one linear layer.
StatusOr<std::shared_ptr<Model>> MakeLogistic(const ModelSettings& settings) {
  int64_t inputs = 1;
  for (const int64_t size : settings.input_shape) inputs *= size;
  return std::make_shared<Mlp>(inputs, std::vector<int64_t>{}, settings.outputs, 0, false, false);
}

DTRAIN_REGISTER_MODEL(logistic, MakeLogistic);

}  // namespace
}  // namespace dtrain
