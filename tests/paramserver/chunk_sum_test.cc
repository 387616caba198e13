// Goal: sums do not depend on who brings which leaves. Method: random partitions of the leaves into sub-trees, each sub-tree
// summed by itself first, against TreeSumBlock over the single leaves, bit for bit; and the same for sums over blocks.
#include "paramserver/chunk_sum.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "base/rng.h"
#include "optim/accumulate.h"
#include "paramserver/block_tree.h"

namespace dtrain::ps {
namespace {

constexpr int64_t kElements = 33;

std::vector<std::vector<float>> Leaves(int64_t count, uint64_t seed) {
  Rng rng(seed, RngPurpose::kSynthetic);
  std::vector<std::vector<float>> leaves(static_cast<size_t>(count), std::vector<float>(kElements));
  for (auto& leaf : leaves) {
    for (float& value : leaf) value = static_cast<float>(rng.Normal() * (rng.Below(4) == 0 ? 1e6 : 1));
  }
  return leaves;
}

std::vector<float> SumOf(const std::vector<std::vector<float>>& leaves, int64_t first, int64_t count) {
  std::vector<const float*> operands;
  for (int64_t i = first; i < first + count; ++i) operands.push_back(leaves[static_cast<size_t>(i)].data());
  std::vector<float> sum(kElements);
  TreeSumBlock(PlanTreeSum(count), operands, kElements, sum.data());
  return sum;
}

// The leaves [0, count) as sub-trees drawn at random.
std::vector<SubTree> Partition(int64_t count, Rng& rng) {
  std::vector<SubTree> units;
  for (int64_t next = 0; next < count;) {
    int level = 0;
    while (level < 6 && next % (int64_t{2} << level) == 0 && next + (int64_t{2} << level) <= count && rng.Below(2) == 0) ++level;
    units.push_back({level, next >> level});
    next += units.back().leaf_count();
  }
  return units;
}

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

TEST(ChunkSum, HasTheBitsOfTheTreeOverTheLeavesWhateverTheUnits) {
  int differs_in_order = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Rng rng(seed, RngPurpose::kSynthetic, 1);
    const auto count = static_cast<int64_t>(1 + rng.Below(20));
    const auto leaves = Leaves(count, seed);
    ChunkSum sum(count, kElements);
    for (int step = 0; step < 2; ++step) {  // twice: memory of the step before leaves no trace
      for (const SubTree& unit : Partition(count, rng)) {
        ASSERT_EQ(sum.TurnOf(unit), ChunkSum::Turn::kNow);
        sum.Add(unit, SumOf(leaves, unit.first_leaf(), unit.leaf_count()));
        EXPECT_EQ(sum.TurnOf(unit), ChunkSum::Turn::kDone);
      }
      ASSERT_TRUE(sum.complete());
      EXPECT_TRUE(SameBits(sum.sum(), SumOf(leaves, 0, count))) << seed << ", " << count << " leaves";
      std::vector<float> in_order = leaves[0];
      for (int64_t i = 1; i < count; ++i) AddInto(in_order, leaves[static_cast<size_t>(i)]);
      differs_in_order += !SameBits(in_order, sum.sum());
      sum.Reset();
    }
  }
  EXPECT_GT(differs_in_order, 200) << "the order makes no difference here, so nothing was tested";
}

TEST(ChunkSum, KnowsWhoseTurnItIs) {
  ChunkSum sum(8, 1);
  const std::vector<float> one = {1};
  sum.Add({1, 0}, one);
  EXPECT_EQ(sum.TurnOf({0, 1}), ChunkSum::Turn::kDone);
  EXPECT_EQ(sum.TurnOf({0, 2}), ChunkSum::Turn::kNow);
  EXPECT_EQ(sum.TurnOf({1, 2}), ChunkSum::Turn::kEarly);
  EXPECT_EQ(sum.TurnOf({2, 0}), ChunkSum::Turn::kConflict);
  EXPECT_FALSE(sum.complete());
}

TEST(BlockTree, PartsOfAnyCutJoinToTheSumOverAllBlocks) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    Rng rng(seed, RngPurpose::kSynthetic, 2);
    const auto blocks = static_cast<int64_t>(1 + rng.Below(300));
    std::vector<double> sums(static_cast<size_t>(blocks));
    for (double& sum : sums) sum = rng.Normal() * 1e3;
    const double expected = TreeSum(PlanTreeSum(blocks), sums);
    std::vector<SumPart> parts;
    for (int64_t begin = 0; begin < blocks;) {
      const int64_t end = begin + 1 + static_cast<int64_t>(rng.Below(static_cast<uint64_t>(blocks - begin)));
      const auto of_shard = SumParts(begin, end, [&](int64_t block) { return sums[static_cast<size_t>(block)]; });
      EXPECT_LE(of_shard.size(), 2u * std::bit_width(static_cast<uint64_t>(blocks)));
      parts.insert(parts.end(), of_shard.begin(), of_shard.end());
      begin = end;
    }
    const auto joined = JoinParts(parts, blocks);
    ASSERT_TRUE(joined.ok());
    EXPECT_EQ(std::bit_cast<uint64_t>(*joined), std::bit_cast<uint64_t>(expected)) << seed;
    // A part that is missing, twice or foreign is noticed.
    auto wrong = parts;
    wrong.erase(wrong.begin() + static_cast<std::ptrdiff_t>(rng.Below(wrong.size())));
    EXPECT_FALSE(JoinParts(wrong, blocks).ok());
    wrong = parts;
    wrong.push_back(parts.back());
    EXPECT_FALSE(JoinParts(wrong, blocks).ok());
    EXPECT_FALSE(JoinParts(parts, blocks + 1).ok());
  }
}

}  // namespace
}  // namespace dtrain::ps
