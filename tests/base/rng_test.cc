// Goal: the n-th number of a stream is the published function of (key, counter), streams never meet, and what is made of
// the numbers is even. Method: Random123's known-answer vectors, then counts with bounds of five standard deviations
// (seeds are fixed, so a count that passes once passes always).
#include "base/rng.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace dtrain {
namespace {

using ::testing::ElementsAre;

// kat_vectors of Random123 1.14, lines "philox4x32 10".
TEST(Philox, EqualsThePublishedVectors) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_THAT(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}), ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(Rng, SameNameGivesTheSameNumbersAndEveryPartOfTheNameCounts) {
  const auto first = [](uint64_t seed, RngPurpose purpose, uint64_t a, uint64_t b) { return Rng(seed, purpose, a, b).Next64(); };
  EXPECT_EQ(first(1, RngPurpose::kShuffle, 2, 3), first(1, RngPurpose::kShuffle, 2, 3));
  const uint64_t high = uint64_t{1} << 32;
  const std::set<uint64_t> different = {first(1, RngPurpose::kShuffle, 2, 3),        first(1 + high, RngPurpose::kShuffle, 2, 3),
                                        first(2, RngPurpose::kShuffle, 2, 3),        first(1, RngPurpose::kAugment, 2, 3),
                                        first(1, RngPurpose::kShuffle, 3, 2),        first(1, RngPurpose::kShuffle, 2 + high, 3),
                                        first(1, RngPurpose::kShuffle, 2, 3 + high), first(1, RngPurpose::kShuffle, 2, 4)};
  EXPECT_EQ(different.size(), 8u);
}

TEST(Rng, NumbersOfAStreamAreItsBlocksInOrderOfTheCounter) {
  Rng rng(7, RngPurpose::kSynthetic, 1, 2);
  std::vector<uint32_t> numbers;
  for (int i = 0; i < 12; ++i) numbers.push_back(rng());
  EXPECT_EQ(std::set<uint32_t>(numbers.begin(), numbers.end()).size(), 12u);
  // Next64 is the same stream, high half first.
  Rng again(7, RngPurpose::kSynthetic, 1, 2);
  for (int i = 0; i < 12; i += 2) EXPECT_EQ(again.Next64(), uint64_t{numbers[i]} << 32 | numbers[i + 1]);
}

TEST(Rng, StreamsOfNeighboursShareNoNumbers) {
  std::set<uint64_t> seen;
  for (uint64_t a = 0; a < 20; ++a) {
    for (uint64_t b = 0; b < 20; ++b) {
      Rng rng(5, RngPurpose::kAugment, a, b);
      for (int i = 0; i < 20; ++i) seen.insert(rng.Next64());
    }
  }
  EXPECT_EQ(seen.size(), 20u * 20 * 20);  // 64 bits: a chance meeting has probability 2e-12
}

// Chi-squared over `counts` that should be equal, against mean + 5 standard deviations.
void ExpectEven(const std::vector<int64_t>& counts, int64_t draws) {
  const double expected = static_cast<double>(draws) / static_cast<double>(counts.size());
  double chi_squared = 0;
  for (const int64_t count : counts) chi_squared += (count - expected) * (count - expected) / expected;
  const double freedom = static_cast<double>(counts.size()) - 1;
  EXPECT_LT(chi_squared, freedom + 5 * std::sqrt(2 * freedom)) << counts.size() << " cells";
  EXPECT_GT(chi_squared, freedom - 5 * std::sqrt(2 * freedom)) << "too even to be random";
}

TEST(Rng, EveryByteOfNextIsEven) {
  Rng rng(1, RngPurpose::kSynthetic);
  std::vector<std::vector<int64_t>> counts(4, std::vector<int64_t>(256));
  constexpr int64_t kDraws = 200'000;
  for (int64_t i = 0; i < kDraws; ++i) {
    const uint32_t number = rng();
    for (int byte = 0; byte < 4; ++byte) ++counts[byte][number >> 8 * byte & 0xff];
  }
  for (const auto& of_byte : counts) ExpectEven(of_byte, kDraws);
}

TEST(Rng, BelowIsEvenForBoundsThatDoNotDivide) {
  for (const uint64_t bound : {2, 3, 5, 7, 10, 100, 1000}) {
    Rng rng(2, RngPurpose::kSynthetic, bound);
    std::vector<int64_t> counts(bound);
    constexpr int64_t kDraws = 100'000;
    for (int64_t i = 0; i < kDraws; ++i) {
      const uint64_t number = rng.Below(bound);
      ASSERT_LT(number, bound);
      ++counts[number];
    }
    ExpectEven(counts, kDraws);
  }
}

// For 3 * 2^62, an unrejected multiply-shift gives every third value twice as often: thirds of the residues tell.
TEST(Rng, BelowIsUnbiasedForABoundNearTheWholeRange) {
  constexpr uint64_t kBound = uint64_t{3} << 62;
  Rng rng(3, RngPurpose::kSynthetic);
  std::vector<int64_t> counts(3);
  constexpr int64_t kDraws = 30'000;
  for (int64_t i = 0; i < kDraws; ++i) {
    const uint64_t number = rng.Below(kBound);
    ASSERT_LT(number, kBound);
    ++counts[number % 3];
  }
  const double expected = kDraws / 3.0;
  for (const int64_t count : counts) EXPECT_NEAR(static_cast<double>(count), expected, 5 * std::sqrt(expected));
}

TEST(Rng, BelowOneIsZero) { EXPECT_EQ(Rng(1, RngPurpose::kSplit).Below(1), 0u); }

TEST(Rng, UniformIsInItsRangeWithTheRightMoments) {
  Rng rng(4, RngPurpose::kSynthetic);
  constexpr int kDraws = 100'000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const float number = rng.Uniform();
    ASSERT_GE(number, 0.0f);
    ASSERT_LT(number, 1.0f);
    sum += number;
    squares += number * number;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 0.005);
}

TEST(Rng, NormalHasTheRightMomentsAndTails) {
  Rng rng(5, RngPurpose::kInitialise);
  constexpr int kDraws = 200'000;
  double sum = 0, squares = 0, fourth = 0;
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double number = rng.Normal();
    ASSERT_TRUE(std::isfinite(number));
    sum += number;
    squares += number * number;
    fourth += number * number * number * number;
    beyond_two += std::abs(number) > 2 ? 1 : 0;
  }
  const double root = std::sqrt(static_cast<double>(kDraws));
  EXPECT_NEAR(sum / kDraws, 0, 5 / root);
  EXPECT_NEAR(squares / kDraws, 1, 5 * std::sqrt(2.0) / root);
  EXPECT_NEAR(fourth / kDraws, 3, 5 * std::sqrt(96.0) / root);
  EXPECT_NEAR(beyond_two / static_cast<double>(kDraws), 0.0455, 5 * std::sqrt(0.0455) / root);
}

TEST(DeriveSeed, DiffersForEveryStepAndLeaf) {
  std::set<uint64_t> seeds;
  for (uint64_t step = 0; step < 100; ++step) {
    for (uint64_t leaf = 0; leaf < 64; ++leaf) seeds.insert(DeriveSeed(9, RngPurpose::kLeaf, step, leaf));
  }
  EXPECT_EQ(seeds.size(), 6400u);
}

}  // namespace
}  // namespace dtrain
