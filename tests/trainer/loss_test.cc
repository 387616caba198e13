// Goal: losses are sums with a weight, so that cutting a batch changes nothing. Method: against LibTorch's own mean.
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/utils.h>

#include "trainer/torch_loss.h"

namespace dtrain {
namespace {

namespace F = torch::nn::functional;

Loss Make(const std::string& type, TaskType task, int64_t classes, const std::vector<double>& weights = {}) {
  auto loss = Loss::Make(type, {.name = "test", .task = task, .classes = classes}, weights);
  EXPECT_TRUE(loss.ok()) << loss.status();
  return *std::move(loss);
}

TEST(Loss, PartsOfABatchAddUpToLibTorchsMean) {
  torch::manual_seed(1);
  const torch::Tensor logits = torch::randn({12, 3}), classes = torch::randint(0, 3, {12}, torch::kInt64);
  const torch::Tensor scores = torch::randn({12, 1}), binary = torch::randint(0, 2, {12}).to(torch::kFloat32), numbers = torch::randn({12});
  const std::vector<double> weights = {0.2, 1, 3}, two = {0.5, 4};
  const torch::Tensor weight = torch::tensor({0.2f, 1.0f, 3.0f});
  const torch::Tensor binary_weight = torch::tensor({0.5f, 4.0f}).index_select(0, binary.to(torch::kInt64));
  struct Case {
    Loss loss;
    torch::Tensor outputs, targets;
    double expected;
  };
  const std::vector<Case> cases = {
      {Make("auto", TaskType::kClassification, 3), logits, classes, F::cross_entropy(logits, classes).item<double>()},
      {Make("auto", TaskType::kClassification, 3, weights), logits, classes,
       F::cross_entropy(logits, classes, F::CrossEntropyFuncOptions().weight(weight)).item<double>()},
      {Make("auto", TaskType::kBinary, 2), scores, binary, F::binary_cross_entropy_with_logits(scores.flatten(), binary).item<double>()},
      {Make("binary", TaskType::kBinary, 2, two), scores, binary,
       (F::binary_cross_entropy_with_logits(scores.flatten(), binary,
                                            F::BinaryCrossEntropyWithLogitsFuncOptions().weight(binary_weight).reduction(torch::kSum)) /
        binary_weight.sum())
           .item<double>()},
      {Make("auto", TaskType::kRegression, 0), scores, numbers, F::mse_loss(scores.flatten(), numbers).item<double>()}};
  for (const Case& c : cases) {
    for (const int64_t cut : {0, 5}) {
      double sum = 0, total = 0;
      for (const auto& [begin, end] : {std::pair<int64_t, int64_t>(0, cut), std::pair<int64_t, int64_t>(cut, 12)}) {
        if (begin == end) continue;
        const LossSum part = c.loss.Sum(c.outputs.slice(0, begin, end), c.targets.slice(0, begin, end));
        sum += part.sum.item<double>();
        total += part.weight;
      }
      EXPECT_NEAR(sum / total, c.expected, 1e-5);
    }
  }
}

TEST(Loss, CountsWhatIsRight) {
  const Loss loss = Make("auto", TaskType::kClassification, 2);
  const auto counts = loss.Count(torch::tensor({{1.0f, 2.0f}, {3.0f, 0.0f}}), torch::tensor({int64_t{1}, int64_t{1}}));
  EXPECT_EQ(counts.correct, 1);
  EXPECT_EQ(counts.samples, 2);
}

TEST(Loss, RefusesWhatDoesNotFitTheData) {
  EXPECT_FALSE(Loss::Make("cross_entropy", {.name = "t", .task = TaskType::kRegression}, {}).ok());
  EXPECT_FALSE(Loss::Make("auto", {.name = "t", .task = TaskType::kClassification, .classes = 3}, {1, 2}).ok());
  EXPECT_FALSE(Loss::Make("hinge", {.name = "t", .task = TaskType::kClassification, .classes = 3}, {}).ok());
}

}  // namespace
}  // namespace dtrain
