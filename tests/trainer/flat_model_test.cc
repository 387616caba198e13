// Goal: a module laid out flat is the same module. Method: gradients and outputs against an untouched copy.
#include <ATen/ops/allclose.h>
#include <ATen/ops/rand.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>
#include <torch/utils.h>

#include "trainer/local_exchange.h"
#include "trainer/torch_flat_model.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Net : torch::nn::Module {
  Net() {
    used = register_module("used", torch::nn::Linear(4, 3));
    norm = register_module("norm", torch::nn::BatchNorm1d(3));
    idle = register_module("idle", torch::nn::Linear(2, 2));
    tied = register_parameter("tied", used->weight);
    frozen = register_parameter("frozen", torch::rand({2}), /*requires_grad=*/false);
  }
  torch::Tensor forward(const torch::Tensor& x) { return norm->forward(used->forward(x)); }
  torch::nn::Linear used{nullptr}, idle{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  torch::Tensor tied, frozen;
};

TEST(FlatModel, KeepsValuesGradientsAliasesAndFrozenTensors) {
  torch::manual_seed(3);
  auto net = std::make_shared<Net>();
  torch::manual_seed(3);
  auto plain = std::make_shared<Net>();
  auto flat = FlatModel::Make(net);
  ASSERT_TRUE(flat.ok()) << flat.status();
  EXPECT_EQ(flat->aliases().size(), 1u);  // either name of the shared tensor
  std::vector<std::string> names;
  for (const FlatEntry& entry : flat->layout().entries) names.push_back(entry.info.name);
  EXPECT_EQ(names.size(), 6u);
  EXPECT_THAT(names.front(), HasSubstr("idle"));  // registered last, so first

  ExchangeOptions options;
  options.nan_policy = NanPolicy::kSkip;
  const auto exchange = MakeLocalExchange(options, flat->layout(), flat->buffer_layout());
  ASSERT_TRUE(exchange.ok());
  ASSERT_TRUE((*exchange)->Load(flat->InitialState()).ok());
  flat->Bind((*exchange)->flat());
  const torch::Tensor x = torch::rand({6, 4});
  flat->StartStep();
  flat->StartLeaf();
  flat->TakeGradientsAway();
  net->forward(x).square().sum().backward();
  EXPECT_THAT(flat->GiveGradientsBack(), ElementsAre("idle.bias", "idle.weight"));
  flat->AddLeafBuffers();
  plain->forward(x).square().sum().backward();
  EXPECT_TRUE(at::allclose(net->used->weight.grad(), plain->used->weight.grad()));
  // The flat buffer holds that very gradient.
  for (const FlatEntry& entry : flat->layout().entries) {
    if (entry.info.name != "used.bias") continue;
    const auto expected = plain->used->bias.grad();
    for (int64_t i = 0; i < 3; ++i) EXPECT_FLOAT_EQ((*exchange)->flat().gradients[entry.offset + i], expected[i].item<float>());
  }
  // A second leaf adds.
  flat->StartLeaf();
  net->forward(x).square().sum().backward();
  EXPECT_TRUE(at::allclose(net->used->bias.grad(), 2 * plain->used->bias.grad()));
  // Integer buffers advance once a step, however many leaves.
  EXPECT_EQ(net->norm->num_batches_tracked.item<int64_t>(), 1);

  auto others = flat->OtherTensors();
  EXPECT_EQ(others.size(), 2u);
  ASSERT_TRUE(flat->LoadOtherTensors(&others).ok());
  EXPECT_TRUE(others.empty());
  EXPECT_FALSE(flat->LoadOtherTensors(&others).ok());
}

TEST(FlatModel, RefusesWhatItCannotLayOut) {
  auto doubles = std::make_shared<Net>();
  doubles->to(torch::kFloat64);
  EXPECT_THAT(std::string(FlatModel::Make(doubles).status().message()), HasSubstr("float32"));
  auto frozen = std::make_shared<Net>();
  for (auto& parameter : frozen->parameters()) parameter.set_requires_grad(false);
  EXPECT_THAT(std::string(FlatModel::Make(frozen).status().message()), HasSubstr("no trainable"));
}

}  // namespace
}  // namespace dtrain
