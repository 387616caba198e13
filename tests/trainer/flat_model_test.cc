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

  const auto exchange = MakeLocalExchange({}, flat->layout(), flat->buffer_layout());
  ASSERT_TRUE(exchange.ok());
  ASSERT_TRUE((*exchange)->Load(flat->InitialState()).ok());
  flat->Bind((*exchange)->flat());
  const torch::Tensor x = torch::rand({6, 4});
  const torch::Tensor expected = plain->forward(x);
  flat->StartStep();
  for (int leaf = 0; leaf < 2; ++leaf) {  // both start from the same buffers
    flat->StartLeaf();
    EXPECT_TRUE(at::allclose(net->forward(x), expected));
    EXPECT_FLOAT_EQ(flat->leaf_buffers()[0], plain->norm->running_mean[0].item<float>());
  }
  // A parameter is a view into the flat buffer.
  for (const FlatEntry& entry : flat->layout().entries) {
    if (entry.info.name != "used.bias") continue;
    (*exchange)->flat().parameters[entry.offset] += 1;
    EXPECT_FLOAT_EQ(net->used->bias[0].item<float>(), plain->used->bias[0].item<float>() + 1);
  }
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
