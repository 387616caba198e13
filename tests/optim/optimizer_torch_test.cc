// Goal: every optimizer is torch::optim's, whatever its options. Method: both take 100 updates of three tensors with the
// same gradients, a learning rate that changes, a group's factor and a gradient scale. In double every element must agree
// to 1e-10; in float, where the order of operations shows, the norm of the difference to 1e-6 of the parameters' norm.
#include <gtest/gtest.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <array>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "tests/optim/every_optimizer.h"
#include "tests/optim/filled.h"

namespace dtrain {
namespace {

constexpr int kUpdates = 100;
constexpr double kRateFactor = 0.5, kGradientScale = 1.0 / 48;

double LearningRateOf(const OptimizerOptions& options, int update) {
  const double base = options.type == OptimizerType::kSgd ? 0.05 : 0.01;
  return base * (1 + 0.5 * std::cos(update * 0.1));
}

std::unique_ptr<torch::optim::Optimizer> MakeTorch(const OptimizerCase& test, const std::vector<torch::Tensor>& tensors) {
  const OptimizerOptions& o = test.options;
  const auto betas = std::make_tuple(o.beta1, o.beta2);
  switch (o.type) {
    case OptimizerType::kSgd:
      return std::make_unique<torch::optim::SGD>(
          tensors,
          torch::optim::SGDOptions(1).momentum(o.momentum).dampening(o.dampening).nesterov(o.nesterov).weight_decay(test.weight_decay));
    case OptimizerType::kAdagrad:
      return std::make_unique<torch::optim::Adagrad>(tensors, torch::optim::AdagradOptions(1)
                                                                  .lr_decay(o.lr_decay)
                                                                  .initial_accumulator_value(o.initial_accumulator)
                                                                  .eps(o.eps)
                                                                  .weight_decay(test.weight_decay));
    case OptimizerType::kRmsprop:
      return std::make_unique<torch::optim::RMSprop>(tensors, torch::optim::RMSpropOptions(1)
                                                                  .momentum(o.momentum)
                                                                  .alpha(o.alpha)
                                                                  .eps(o.eps)
                                                                  .centered(o.centered)
                                                                  .weight_decay(test.weight_decay));
    case OptimizerType::kAdam:
      return std::make_unique<torch::optim::Adam>(
          tensors, torch::optim::AdamOptions(1).betas(betas).eps(o.eps).amsgrad(o.amsgrad).weight_decay(test.weight_decay));
    case OptimizerType::kAdamW:
      return std::make_unique<torch::optim::AdamW>(
          tensors, torch::optim::AdamWOptions(1).betas(betas).eps(o.eps).amsgrad(o.amsgrad).weight_decay(test.weight_decay));
  }
  return nullptr;
}

template <typename T>
class FlatAgainstTorch {
 public:
  explicit FlatAgainstTorch(const OptimizerCase& test) : test_(test), flat_(Normals<T>(1, kElements)) {
    for (const int64_t elements : kTensorElements) {
      tensors_.push_back(torch::from_blob(flat_.data() + begin_of_.back(), {elements}, c10::CppTypeToScalarType<T>::value).clone());
      tensors_.back().set_requires_grad(true);
      begin_of_.push_back(begin_of_.back() + elements);
    }
    torch_ = MakeTorch(test, tensors_);
    ours_ = MakeOptimizer(test.options).value();
    for (size_t slot = 0; slot < ours_->slot_names().size(); ++slot) {
      slots_.emplace_back(kElements, static_cast<T>(ours_->slot_initial(static_cast<int>(slot))));
    }
  }

  void Update(int update) {
    const auto gradients = Normals<T>(100 + update, kElements, 48);
    const double rate = LearningRateOf(test_.options, update);
    std::vector<std::span<T>> slots(slots_.begin(), slots_.end());
    ours_->Apply({.update = update, .learning_rate = rate, .gradient_scale = kGradientScale},
                 {.lr_factor = kRateFactor, .weight_decay = test_.weight_decay}, std::span<T>(flat_), std::span<const T>(gradients), slots);

    std::vector<T> scaled = gradients;
    for (T& gradient : scaled) gradient *= static_cast<T>(kGradientScale);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      tensors_[i].mutable_grad() =
          torch::from_blob(scaled.data() + begin_of_[i], {kTensorElements[i]}, c10::CppTypeToScalarType<T>::value).clone();
    }
    torch_->param_groups()[0].options().set_lr(rate * kRateFactor);
    torch_->step();
  }

  // Calls visit(ours, torch's) for every element.
  template <typename Visit>
  void ForPairs(const Visit& visit) const {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const T* other = tensors_[i].template const_data_ptr<T>();
      for (int64_t j = 0; j < kTensorElements[i]; ++j) visit(static_cast<double>(flat_[begin_of_[i] + j]), static_cast<double>(other[j]));
    }
  }

 private:
  static constexpr std::array<int64_t, 3> kTensorElements = {1, 67, 300};
  static constexpr int64_t kElements = 368;
  OptimizerCase test_;
  std::vector<T> flat_;
  std::vector<std::vector<T>> slots_;
  std::vector<int64_t> begin_of_ = {0};
  std::vector<torch::Tensor> tensors_;
  std::unique_ptr<torch::optim::Optimizer> torch_;
  std::unique_ptr<Optimizer> ours_;
};

// One test for all cases: torch takes longer to load than to train them.
TEST(OptimizerAgainstTorch, EveryElementAgreesInDouble) {
  for (const OptimizerCase& test : EveryOptimizer()) {
    SCOPED_TRACE(test.name);
    FlatAgainstTorch<double> both(test);
    for (int update = 1; update <= kUpdates; ++update) both.Update(update);
    both.ForPairs([](double ours, double theirs) { EXPECT_NEAR(ours, theirs, 1e-10 * std::abs(theirs)); });
  }
}

TEST(OptimizerAgainstTorch, TheNormAgreesInFloat) {
  for (const OptimizerCase& test : EveryOptimizer()) {
    SCOPED_TRACE(test.name);
    FlatAgainstTorch<float> both(test);
    std::vector<double> first;
    both.ForPairs([&](double ours, double) { first.push_back(ours); });
    for (int update = 1; update <= kUpdates; ++update) both.Update(update);
    double difference = 0, norm = 0, moved = 0;
    size_t i = 0;
    both.ForPairs([&](double ours, double theirs) {
      difference += std::pow(ours - theirs, 2);
      norm += std::pow(theirs, 2);
      moved += std::pow(ours - first[i++], 2);
    });
    EXPECT_LE(std::sqrt(difference), 1e-6 * std::sqrt(norm));
    EXPECT_GE(std::sqrt(moved), 1e-2 * std::sqrt(norm));  // else agreement would say nothing
  }
}

}  // namespace
}  // namespace dtrain
