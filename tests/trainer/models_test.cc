// Goal: models are what their names say. Method: counts of the published examples, output against the formula.
#include <ATen/ops/allclose.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/rand.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/model.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

int64_t Count(const Model& model) {
  int64_t count = 0;
  for (const auto& parameter : model.parameters()) count += parameter.numel();
  return count;
}

Value Settings(std::initializer_list<std::pair<const char*, Value>> entries) {
  Value settings = Value::Map();
  for (const auto& [name, value] : entries) settings.Set(name, value);
  return settings;
}

TEST(Models, ConvNetIsThatOfRaysParameterServerExample) {
  const auto model = MakeModel("convnet", {{1, 28, 28}, 10, Value::Map()});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Count(**model), 1960);
  const torch::Tensor x = torch::rand({5, 1, 28, 28});
  const auto named = (*model)->named_parameters();
  const torch::Tensor hidden = at::max_pool2d(at::conv2d(x, named["conv1.weight"], named["conv1.bias"]), 3).relu().flatten(1);
  EXPECT_TRUE(at::allclose((*model)->forward(x), at::addmm(named["fc.bias"], hidden, named["fc.weight"].t())));
}

TEST(Models, MlpHasItsLayersDropoutAndOutputRelu) {
  const auto model =
      MakeModel("mlp", {{1, 28, 28}, 10, Settings({{"hidden", Value::List{512, 512}}, {"dropout", 0.25}, {"relu_output", true}})});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Count(**model), 784 * 512 + 512 + 512 * 512 + 512 + 5120 + 10);
  const torch::Tensor x = torch::rand({64, 1, 28, 28});
  (*model)->eval();
  EXPECT_TRUE(at::allclose((*model)->forward(x), (*model)->forward(x)));
  EXPECT_GE((*model)->forward(x).min().item<float>(), 0.0f);
  (*model)->train();
  EXPECT_FALSE(at::allclose((*model)->forward(x), (*model)->forward(x)));
  const auto normed = MakeModel("mlp", {{4}, 3, Settings({{"hidden", Value::List{8}}, {"batch_norm", true}})});
  ASSERT_TRUE(normed.ok());
  EXPECT_EQ((*normed)->named_buffers().size(), 3u);
}

TEST(Models, LogisticIsOneLayer) {
  const auto model = MakeModel("logistic", {{4}, 1, Value::Map()});
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(Count(**model), 5);
}

TEST(Models, AnUnknownTypeNamesTheNearest) {
  const Status status = MakeModel("convent", {{4}, 1, Value::Map()}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("did you mean 'convnet'"));
  EXPECT_THAT(ModelTypes(), IsSupersetOf({"convnet", "logistic", "mlp"}));
  EXPECT_THAT(std::string(MakeModel("convnet", {{4}, 1, Value::Map()}).status().message()), HasSubstr("(channels, height, width)"));
}

}  // namespace
}  // namespace dtrain
