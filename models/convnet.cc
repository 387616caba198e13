// The small convolutional net of Ray's parameter-server example: convolution 1 -> 3 channels of 3x3, max-pool 3, ReLU,
// linear 192 -> 10 on 28x28 images: 1,960 parameters.
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include "base/tensor_view.h"
#include "models/model.h"

namespace dtrain {
namespace {

constexpr int64_t kChannels = 3, kKernel = 3, kPool = 3;

class ConvNet final : public Model {
 public:
  ConvNet(int64_t channels, int64_t features, int64_t outputs)
      : conv1_(register_module("conv1", torch::nn::Conv2d(channels, kChannels, kKernel))),
        fc_(register_module("fc", torch::nn::Linear(features, outputs))) {}

  torch::Tensor forward(torch::Tensor x) override {
    x = torch::relu(torch::max_pool2d(conv1_->forward(x), kPool));
    return fc_->forward(x.flatten(1));
  }

 private:
  torch::nn::Conv2d conv1_;
  torch::nn::Linear fc_;
};

StatusOr<std::shared_ptr<Model>> MakeConvNet(const ModelSettings& settings) {
  const auto& shape = settings.input_shape;
  constexpr int64_t kSizeMin = kKernel + kPool - 1;
  if (shape.size() != 3 || shape[1] < kSizeMin || shape[2] < kSizeMin) {
    return WithHint(InvalidArgument("make model 'convnet': a sample has shape ", ShapeText(shape),
                                    "; expected (channels, height, width) with at least ", kSizeMin, " x ", kSizeMin, " pixels"),
                    "use an image set such as mnist, or model.type: mlp");
  }
  const int64_t height = (shape[1] - kKernel + 1) / kPool, width = (shape[2] - kKernel + 1) / kPool;
  return std::make_shared<ConvNet>(shape[0], kChannels * height * width, settings.outputs);
}

DTRAIN_REGISTER_MODEL(convnet, MakeConvNet);

}  // namespace
}  // namespace dtrain
