// Goal: an optimizer's bits do not depend on how a buffer is cut or on the machine's registers; its contract (slots,
// ranges of options, one scale per gradient) holds. Method: every combination of options, whole against cut at odd
// places, and against every instruction set of the machine; a few updates by hand. torch's numbers: optimizer_torch_test.
#include "optim/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "optim/vector_loop.h"
#include "tests/optim/every_optimizer.h"
#include "tests/optim/filled.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Parameters and slots after `updates` updates in which each buffer was cut at `cuts`.
template <typename T>
std::vector<std::vector<T>> Train(const OptimizerCase& test, int64_t elements, const std::vector<int64_t>& cuts, int updates = 5) {
  const auto optimizer = MakeOptimizer(test.options).value();
  std::vector<std::vector<T>> state = {Normals<T>(1, elements)};
  for (size_t slot = 0; slot < optimizer->slot_names().size(); ++slot) {
    state.emplace_back(elements, static_cast<T>(optimizer->slot_initial(static_cast<int>(slot))));
  }
  for (int update = 1; update <= updates; ++update) {
    const auto gradients = Normals<T>(10 + update, elements, 3);
    int64_t begin = 0;
    for (size_t i = 0; i <= cuts.size(); ++i) {
      const int64_t size = (i < cuts.size() ? cuts[i] : elements) - begin;
      std::vector<std::span<T>> slots;
      for (size_t slot = 1; slot < state.size(); ++slot) slots.push_back(std::span(state[slot]).subspan(begin, size));
      optimizer->Apply({.update = update, .learning_rate = 0.013, .gradient_scale = 0.3}, {.weight_decay = test.weight_decay},
                       std::span(state[0]).subspan(begin, size), std::span<const T>(gradients).subspan(begin, size), slots);
      begin += size;
    }
  }
  return state;
}

template <typename T>
void ExpectSameBits(const std::vector<std::vector<T>>& a, const std::vector<std::vector<T>>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].size(), b[i].size());
    for (size_t j = 0; j < a[i].size(); ++j) {
      ASSERT_EQ(std::memcmp(&a[i][j], &b[i][j], sizeof(T)), 0) << "buffer " << i << " element " << j << ": " << a[i][j] << ", " << b[i][j];
    }
  }
}

class EachOptimizer : public ::testing::TestWithParam<OptimizerCase> {
 protected:
  void TearDown() override { LimitInstructionSetForTest(MachineInstructionSet()); }
};

template <typename T>
void ExpectCutsDoNotMatter(const OptimizerCase& test) {
  constexpr int64_t kElements = 293;
  const auto whole = Train<T>(test, kElements, {});
  ExpectSameBits(whole, Train<T>(test, kElements, {1, 2, 5, 5, 38, 171, 290}));
  std::vector<int64_t> each;
  for (int64_t i = 1; i < kElements; ++i) each.push_back(i);
  ExpectSameBits(whole, Train<T>(test, kElements, each));  // one element at a time
}

TEST_P(EachOptimizer, SlicesGiveTheBitsOfTheWhole) {
  ExpectCutsDoNotMatter<float>(GetParam());
  ExpectCutsDoNotMatter<double>(GetParam());
}

TEST_P(EachOptimizer, EveryInstructionSetGivesTheSameBits) {
  LimitInstructionSetForTest(InstructionSet::kBaseline);
  ASSERT_EQ(ChosenInstructionSet(), InstructionSet::kBaseline);
  const auto floats = Train<float>(GetParam(), 293, {});
  const auto doubles = Train<double>(GetParam(), 293, {});
  if (MachineInstructionSet() == InstructionSet::kBaseline) GTEST_SKIP() << "this machine has no wider registers to compare with";
  LimitInstructionSetForTest(MachineInstructionSet());
  ExpectSameBits(floats, Train<float>(GetParam(), 293, {}));
  ExpectSameBits(doubles, Train<double>(GetParam(), 293, {}));
}

TEST_P(EachOptimizer, ANanGradientReachesItsParameterAndNoOther) {
  const auto optimizer = MakeOptimizer(GetParam().options).value();
  constexpr size_t kElements = 37;
  for (size_t bad = 0; bad < kElements; ++bad) {
    std::vector<float> parameters(kElements, 1), gradients(kElements, 0.5F);
    gradients[bad] = std::numeric_limits<float>::quiet_NaN();
    std::vector<std::vector<float>> state(optimizer->slot_names().size(), std::vector<float>(kElements, 1));
    std::vector<std::span<float>> slots(state.begin(), state.end());
    optimizer->Apply({.learning_rate = 0.1}, {.weight_decay = GetParam().weight_decay}, std::span<float>(parameters),
                     std::span<const float>(gradients), slots);
    for (size_t i = 0; i < kElements; ++i) EXPECT_EQ(std::isnan(parameters[i]), i == bad) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, EachOptimizer, ::testing::ValuesIn(EveryOptimizer()), [](const auto& info) { return info.param.name; });

TEST(Sgd, OneUpdateByHand) {
  const auto optimizer = MakeOptimizer({.momentum = 0.5, .dampening = 0.25}).value();
  std::vector<double> p = {1}, buffer = {0};
  const std::vector<double> g = {8};
  std::vector<std::span<double>> slots = {buffer};
  // Gradient 8 / 4 + decay 0.5 * 1 = 2.5. The first update takes it whole, the second with weight 1 - 0.25.
  optimizer->Apply({.update = 1, .learning_rate = 0.1, .gradient_scale = 0.25}, {.weight_decay = 0.5}, std::span<double>(p),
                   std::span<const double>(g), slots);
  EXPECT_DOUBLE_EQ(buffer[0], 2.5);
  EXPECT_DOUBLE_EQ(p[0], 0.75);
  optimizer->Apply({.update = 2, .learning_rate = 0.1, .gradient_scale = 0.25}, {.lr_factor = 2, .weight_decay = 0.5}, std::span<double>(p),
                   std::span<const double>(g), slots);
  EXPECT_DOUBLE_EQ(buffer[0], 0.5 * 2.5 + 0.75 * 2.375);
  EXPECT_DOUBLE_EQ(p[0], 0.75 - 0.2 * buffer[0]);
}

TEST(Adam, FirstUpdateMovesByTheLearningRate) {
  for (const OptimizerType type : {OptimizerType::kAdam, OptimizerType::kAdamW}) {
    const auto optimizer = MakeOptimizer({.type = type, .eps = 0}).value();
    std::vector<double> p = {1, 1}, mean = {0, 0}, square = {0, 0};
    const std::vector<double> g = {1e-7, -300};
    std::vector<std::span<double>> slots = {mean, square};
    optimizer->Apply({.learning_rate = 0.125}, {}, std::span<double>(p), std::span<const double>(g), slots);
    EXPECT_NEAR(p[0], 0.875, 1e-12);
    EXPECT_NEAR(p[1], 1.125, 1e-12);
  }
}

TEST(Optimizer, GradientsStayAsTheyAre) {
  const auto optimizer = MakeOptimizer({}).value();
  std::vector<float> p = {1, 2};
  const std::vector<float> g = {3, 4}, before = g;
  optimizer->Apply({.learning_rate = 1, .gradient_scale = 0.5}, {.weight_decay = 1}, std::span<float>(p), std::span<const float>(g), {});
  EXPECT_EQ(g, before);
}

TEST(Optimizer, NoElementsIsNoWork) {
  for (const OptimizerCase& test : EveryOptimizer()) EXPECT_THAT(Train<float>(test, 0, {})[0], IsEmpty());
}

std::vector<std::string> SlotsOf(const OptimizerOptions& options) { return MakeOptimizer(options).value()->slot_names(); }

TEST(Optimizer, SlotsAreNamedAsInTorchsStateDict) {
  EXPECT_THAT(SlotsOf({}), IsEmpty());
  EXPECT_THAT(SlotsOf({.momentum = 0.9}), ElementsAre("momentum_buffer"));
  EXPECT_THAT(SlotsOf({.type = OptimizerType::kAdagrad}), ElementsAre("sum"));
  EXPECT_THAT(SlotsOf({.type = OptimizerType::kRmsprop}), ElementsAre("square_avg"));
  EXPECT_THAT(SlotsOf({.type = OptimizerType::kRmsprop, .momentum = 0.5, .centered = true}),
              ElementsAre("square_avg", "momentum_buffer", "grad_avg"));
  EXPECT_THAT(SlotsOf({.type = OptimizerType::kRmsprop, .centered = true}), ElementsAre("square_avg", "grad_avg"));
  EXPECT_THAT(SlotsOf({.type = OptimizerType::kAdam}), ElementsAre("exp_avg", "exp_avg_sq"));
  EXPECT_THAT(SlotsOf({.type = OptimizerType::kAdamW, .amsgrad = true}), ElementsAre("exp_avg", "exp_avg_sq", "max_exp_avg_sq"));
}

TEST(Optimizer, OnlyAdagradsSlotStartsFromAnOption) {
  EXPECT_EQ(MakeOptimizer({.type = OptimizerType::kAdagrad, .initial_accumulator = 0.25}).value()->slot_initial(0), 0.25);
  EXPECT_EQ(MakeOptimizer({.momentum = 0.9, .initial_accumulator = 0.25}).value()->slot_initial(0), 0);
  EXPECT_EQ(MakeOptimizer({.type = OptimizerType::kAdam, .initial_accumulator = 0.25}).value()->slot_initial(1), 0);
}

struct Refusal {
  OptimizerOptions options;
  std::string message;
};

TEST(MakeOptimizer, RefusesAnOptionOutOfItsRangeByName) {
  using enum OptimizerType;
  const std::vector<Refusal> refusals = {
      {{.momentum = 1}, "make optimizer sgd: momentum is 1, expected at least 0 and below 1"},
      {{.momentum = -0.1}, "momentum is -0.1"},
      {{.momentum = kNan}, "momentum is nan"},
      {{.momentum = 0.9, .dampening = 1.5}, "dampening is 1.5, expected 0 to 1"},
      {{.momentum = 0.9, .dampening = -1}, "dampening is -1"},
      {{.momentum = 0, .nesterov = true}, "momentum is 0, expected above 0 with nesterov"},
      {{.momentum = 0.9, .dampening = 0.1, .nesterov = true}, "dampening is 0.1, expected 0 with nesterov"},
      {{.type = kAdagrad, .lr_decay = -1}, "make optimizer adagrad: lr_decay is -1, expected a number of at least 0"},
      {{.type = kAdagrad, .initial_accumulator = -1}, "initial_accumulator is -1"},
      {{.type = kAdagrad, .eps = kNan}, "eps is nan"},
      {{.type = kRmsprop, .alpha = 1}, "make optimizer rmsprop: alpha is 1, expected at least 0 and below 1"},
      {{.type = kRmsprop, .momentum = 2}, "momentum is 2"},
      {{.type = kRmsprop, .eps = -1}, "eps is -1"},
      {{.type = kAdam, .beta1 = 1}, "make optimizer adam: beta1 is 1"},
      {{.type = kAdamW, .beta2 = -0.5}, "make optimizer adamw: beta2 is -0.5"},
      {{.type = kAdamW, .eps = kInfinity}, "eps is inf"},
      {{.type = static_cast<OptimizerType>(9)}, "type 9 is none"},
  };
  for (const auto& [options, message] : refusals) {
    const auto optimizer = MakeOptimizer(options);
    ASSERT_FALSE(optimizer.ok()) << message;
    EXPECT_EQ(optimizer.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(optimizer.status()), HasSubstr(message));
  }
}

TEST(MakeOptimizer, TakesTheEndsOfRangesAndIgnoresOptionsOfOtherTypes) {
  using enum OptimizerType;
  EXPECT_TRUE(MakeOptimizer({.momentum = 0.5, .dampening = 1}).ok());
  EXPECT_TRUE(MakeOptimizer({.type = kAdam, .beta1 = 0, .beta2 = 0, .eps = 0}).ok());
  EXPECT_TRUE(MakeOptimizer({.beta1 = 7, .eps = -1, .alpha = 9, .lr_decay = -3}).ok());
  EXPECT_TRUE(MakeOptimizer({.type = kAdam, .momentum = 7, .nesterov = true}).ok());
}

TEST(ParseOptimizerType, KnowsEveryNameAndSuggestsTheNearest) {
  EXPECT_EQ(ParseOptimizerType("sgd").value(), OptimizerType::kSgd);
  EXPECT_EQ(ParseOptimizerType("adagrad").value(), OptimizerType::kAdagrad);
  EXPECT_EQ(ParseOptimizerType("rmsprop").value(), OptimizerType::kRmsprop);
  EXPECT_EQ(ParseOptimizerType("adam").value(), OptimizerType::kAdam);
  EXPECT_EQ(ParseOptimizerType("adamw").value(), OptimizerType::kAdamW);
  const auto wrong = ParseOptimizerType("rmsporp");
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(Message(wrong.status()),
              HasSubstr("found 'rmsporp', expected sgd, adagrad, rmsprop, adam, adamw\n  Hint: did you mean rmsprop?"));
}

}  // namespace
}  // namespace dtrain
