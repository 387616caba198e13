// Goal: sums over elements and over operands have the bits that their headers promise, on every instruction set. Method:
// BlockSquareSum against the same sum written plainly and against long double; the tree sum against a recursive one;
// non-finite numbers at every place of a vector.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/flat_layout.h"
#include "optim/accumulate.h"
#include "optim/block_sums.h"
#include "optim/vector_loop.h"
#include "tests/optim/filled.h"

namespace dtrain {
namespace {

using ::testing::Each;
using ::testing::ElementsAreArray;

constexpr float kFloatMax = std::numeric_limits<float>::max();

// Runs a test's body once for each instruction set of this machine.
class ForInstructionSets : public ::testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override {
    if (GetParam() > MachineInstructionSet()) GTEST_SKIP() << "this machine has no such instructions";
    LimitInstructionSetForTest(GetParam());
  }
  void TearDown() override { LimitInstructionSetForTest(MachineInstructionSet()); }
};

INSTANTIATE_TEST_SUITE_P(Every, ForInstructionSets, ::testing::Values(InstructionSet::kBaseline, InstructionSet::kAvx2),
                         [](const auto& info) { return info.param == InstructionSet::kAvx2 ? "avx2" : "baseline"; });

// The header's sentence, one step after the other.
double PlainBlockSquareSum(std::span<const float> block) {
  std::array<double, 16> lanes = {};
  for (size_t i = 0; i < block.size(); ++i) lanes[i % 16] += static_cast<double>(block[i]) * block[i];
  for (const int half : {8, 4, 2, 1}) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

TEST_P(ForInstructionSets, BlockSquareSumHasTheBitsOfItsDefinition) {
  const auto values = Normals<float>(3, kBlockElements + 3, 1e3);
  for (const int64_t size : {0, 1, 2, 15, 16, 17, 31, 33, 100, 1000, 4095, 4096}) {
    for (const int64_t offset : {0, 1, 3}) {  // where the block lies in memory must not matter either
      const auto block = std::span<const float>(values).subspan(offset, size);
      EXPECT_EQ(std::bit_cast<uint64_t>(BlockSquareSum(block)), std::bit_cast<uint64_t>(PlainBlockSquareSum(block))) << size;
      const long double exact =
          std::accumulate(block.begin(), block.end(), 0.0L, [](long double sum, float x) { return sum + static_cast<long double>(x) * x; });
      EXPECT_NEAR(BlockSquareSum(block), static_cast<double>(exact), 1e-14 * static_cast<double>(exact));
    }
  }
}

TEST_P(ForInstructionSets, BlockSquareSumOfTheLargestFloatsIsFinite) {
  const std::vector<float> largest(kBlockElements, kFloatMax);
  const double exact = kBlockElements * std::pow(static_cast<double>(kFloatMax), 2);
  EXPECT_NEAR(BlockSquareSum(largest), exact, 1e-13 * exact);
}

TEST_P(ForInstructionSets, ANumberThatIsNotFiniteIsSeenAtEveryPlace) {
  const std::vector<float> bad_values = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                                         std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
                                         std::bit_cast<float>(0x7f800001U)};
  for (const size_t size : {1, 15, 16, 67, 130}) {
    const std::vector<float> good(size, kFloatMax);
    EXPECT_TRUE(AllFinite(good));
    EXPECT_TRUE(std::isfinite(BlockSquareSum(good)));
    for (size_t i = 0; i < size; ++i) {
      for (const float bad : bad_values) {
        std::vector<float> values = good;
        values[i] = bad;
        EXPECT_FALSE(AllFinite(values)) << bad << " at " << i << " of " << size;
        EXPECT_FALSE(std::isfinite(BlockSquareSum(values))) << bad << " at " << i << " of " << size;
      }
    }
  }
}

TEST_P(ForInstructionSets, EveryKindOfFiniteNumberIsFinite) {
  EXPECT_TRUE(AllFinite({}));
  const std::vector<float> values = {
      0.0F, -0.0F, std::numeric_limits<float>::denorm_min(), -std::numeric_limits<float>::min(), kFloatMax, -kFloatMax, 1, -1};
  EXPECT_TRUE(AllFinite(values));
}

// The tree from its root: the program's last merge adds the value that ends at `*end` to the one that ends before it.
// Moves `*end` to where the value's first operand lies.
float RecursiveSum(std::vector<int>* merges, std::span<const float> operands, size_t* end) {
  if ((*merges)[*end - 1] == 0) return operands[--*end];
  --(*merges)[*end - 1];
  const float right = RecursiveSum(merges, operands, end);
  const float left = RecursiveSum(merges, operands, end);
  return left + right;
}

void ExpectTreeSum(const TreeSumPlan& plan, int64_t count) {
  const size_t operand_count = plan.merges_after.size();
  std::vector<std::vector<float>> values;
  std::vector<const float*> operands;
  for (size_t i = 0; i < operand_count; ++i) values.push_back(Normals<float>(20 + i, count, std::pow(10, i % 5)));
  for (const auto& operand : values) operands.push_back(operand.data());
  std::vector<float> out(count + 1, 77);
  TreeSumBlock(plan, operands, count, out.data());
  std::vector<float> column(operand_count);
  for (int64_t i = 0; i < count; ++i) {
    for (size_t k = 0; k < operand_count; ++k) column[k] = values[k][i];
    std::vector<int> merges = plan.merges_after;
    size_t end = operand_count;
    ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(RecursiveSum(&merges, column, &end)))
        << operand_count << " operands, element " << i;
    ASSERT_EQ(end, 0U);
  }
  EXPECT_EQ(out[count], 77) << "wrote past the end";
}

TEST_P(ForInstructionSets, TreeSumIsTheRecursiveSumForEveryPlan) {
  for (int64_t operands = 1; operands <= 16; ++operands) {
    for (const int64_t count : {0, 1, 255, 256, 257, 700}) ExpectTreeSum(PlanTreeSum(operands), count);
  }
  ExpectTreeSum(PlanTreeSum(64), 4096);
  for (int ranks = 1; ranks <= 16; ++ranks) ExpectTreeSum(PlanTreeSum(AssignSubTrees(16, ranks).value()), 300);
  for (const auto& merges : std::vector<std::vector<int>>{{0, 1, 1, 1}, {0, 0, 0, 3}, {0, 0, 2, 1}, {0, 0, 1, 2}, {0, 0, 2}, {0, 1, 1}}) {
    ExpectTreeSum({merges}, 300);
  }
}

TEST(TreeSumBlock, APlanThatEndsWithTwoValuesStops) {
  const std::vector<float> value = {1};
  const std::vector<const float*> operands(5, value.data());
  float out = 0;
  EXPECT_DEATH(TreeSumBlock({{0, 1, 0, 1, 0}}, operands, 1, &out), "depth == 1");
  EXPECT_DEATH(TreeSumBlock({{0, 2, 0, 1, 0}}, operands, 1, &out), "depth >= 2");
  EXPECT_DEATH(TreeSumBlock({{0, 1}}, operands, 1, &out), "merges_after");
}

TEST_P(ForInstructionSets, AddIntoAddsElementByElement) {
  for (const int64_t size : {0, 1, 17, 1000}) {
    const auto left = Normals<float>(1, size);
    auto right = Normals<float>(2, size);
    std::vector<float> expected;
    for (int64_t i = 0; i < size; ++i) expected.push_back(left[i] + right[i]);
    AddInto(right, left);
    EXPECT_THAT(right, ElementsAreArray(expected));
  }
}

}  // namespace
}  // namespace dtrain
