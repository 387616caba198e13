// A user's own model: this file, one macro, and dtrain::main linked in.
#include <torch/nn/modules/linear.h>

#include "models/model.h"

namespace {

class TwoHeads final : public dtrain::Model {
 public:
  TwoHeads(int64_t inputs, int64_t outputs, int64_t width)
      : body_(register_module("body", torch::nn::Linear(inputs, width))),
        head_(register_module("head", torch::nn::Linear(width, outputs))) {}
  torch::Tensor forward(torch::Tensor x) override { return head_->forward(torch::tanh(body_->forward(x.flatten(1)))); }

 private:
  torch::nn::Linear body_, head_;
};

dtrain::StatusOr<std::shared_ptr<dtrain::Model>> Make(const dtrain::ModelSettings& settings) {
  int64_t inputs = 1;
  for (const int64_t size : settings.input_shape) inputs *= size;
  return std::make_shared<TwoHeads>(inputs, settings.outputs, settings.parameters.Int("width", 16));
}

DTRAIN_REGISTER_MODEL(two_heads, Make);

}  // namespace
