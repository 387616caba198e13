// Goal: every sample is given out as the policy says, to whichever leaf, and the order is a function of (seed, epoch) alone.
// Method: many small shapes against closed forms; the whole epoch of one leaf is the reference for any number of leaves.
#include "datasets/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Sampler Made(const SamplerOptions& options) {
  auto sampler = Sampler::Make(options);
  EXPECT_TRUE(sampler.ok()) << sampler.status();
  return *std::move(sampler);
}

// All samples of an epoch, leaf after leaf, step after step.
std::vector<int64_t> Epoch(Sampler& sampler, int64_t epoch) {
  std::vector<int64_t> all;
  for (int64_t t = 0; t < sampler.steps_per_epoch(); ++t) {
    for (int64_t leaf = 0; leaf < sampler.options().leaves; ++leaf) {
      const auto part = sampler.Indices(epoch * sampler.steps_per_epoch() + t, leaf);
      all.insert(all.end(), part.begin(), part.end());
    }
  }
  return all;
}

std::vector<int64_t> Sorted(std::vector<int64_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

std::vector<int64_t> UpTo(int64_t size) {
  std::vector<int64_t> numbers(static_cast<size_t>(size));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// (size N, batch B, leaves M): even, uneven, one batch, one sample, leaves that do not divide the batch.
struct Shape {
  int64_t size, batch, leaves;
};
const std::vector<Shape> kShapes = {{64, 16, 4}, {65, 16, 4}, {79, 16, 8},   {16, 16, 1}, {17, 16, 2},
                                    {1, 1, 1},   {100, 7, 3}, {1797, 64, 8}, {31, 10, 10}};

TEST(Sampler, EveryEpochIsAPermutationWithPad) {
  for (const Shape& shape : kShapes) {
    Sampler sampler =
        Made({.seed = 5, .dataset_size = shape.size, .global_batch = shape.batch, .leaves = shape.leaves, .remainder = Remainder::kPad});
    const int64_t steps = (shape.size + shape.batch - 1) / shape.batch;
    ASSERT_EQ(sampler.steps_per_epoch(), steps);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      const auto all = Epoch(sampler, epoch);
      ASSERT_EQ(static_cast<int64_t>(all.size()), steps * shape.batch);
      ASSERT_EQ(Sorted({all.begin(), all.begin() + shape.size}), UpTo(shape.size));
      // What is repeated are the epoch's first samples, in order.
      for (int64_t i = shape.size; i < steps * shape.batch; ++i) ASSERT_EQ(all[i], all[i - shape.size]);
    }
  }
}

TEST(Sampler, DropLeavesOutTheRemainderOnly) {
  for (const Shape& shape : kShapes) {
    Sampler sampler =
        Made({.seed = 5, .dataset_size = shape.size, .global_batch = shape.batch, .leaves = shape.leaves, .remainder = Remainder::kDrop});
    const auto all = Epoch(sampler, 1);
    ASSERT_EQ(sampler.steps_per_epoch(), shape.size / shape.batch);
    ASSERT_EQ(static_cast<int64_t>(all.size()), shape.size / shape.batch * shape.batch);
    ASSERT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), all.size());
  }
}

TEST(Sampler, PartialGivesEverySampleOnce) {
  for (const Shape& shape : kShapes) {
    for (const SamplerKind kind : {SamplerKind::kShuffled, SamplerKind::kSequential}) {
      Sampler sampler = Made({.dataset_size = shape.size,
                              .kind = kind,
                              .global_batch = shape.batch,
                              .leaves = shape.leaves,
                              .remainder = Remainder::kPartial});
      ASSERT_EQ(Sorted(Epoch(sampler, 2)), UpTo(shape.size));
    }
  }
  Sampler larger_than_the_set =
      Made({.dataset_size = 3, .kind = SamplerKind::kSequential, .global_batch = 8, .leaves = 4, .remainder = Remainder::kPartial});
  EXPECT_THAT(larger_than_the_set.Indices(0, 0), ElementsAre(0, 1));
  EXPECT_THAT(larger_than_the_set.Indices(0, 1), ElementsAre(2));
  EXPECT_THAT(larger_than_the_set.Indices(0, 3), IsEmpty());
}

TEST(Sampler, AnyNumberOfLeavesGivesTheSameOrder) {
  for (const Remainder remainder : {Remainder::kPad, Remainder::kDrop, Remainder::kPartial}) {
    SamplerOptions options = {.seed = 9, .dataset_size = 1003, .global_batch = 64, .leaves = 1, .remainder = remainder};
    Sampler whole = Made(options);
    const auto expected = Epoch(whole, 4);
    for (const int64_t leaves : {2, 3, 4, 7, 8, 16, 64}) {
      options.leaves = leaves;
      Sampler cut = Made(options);
      ASSERT_EQ(Epoch(cut, 4), expected) << leaves;
    }
  }
}

TEST(Sampler, LeavesAreCutAtTheFloorOfTheirShare) {
  Sampler sampler = Made({.dataset_size = 30, .kind = SamplerKind::kSequential, .global_batch = 10, .leaves = 4});
  EXPECT_THAT(sampler.Indices(1, 0), ElementsAre(10, 11));
  EXPECT_THAT(sampler.Indices(1, 1), ElementsAre(12, 13, 14));
  EXPECT_THAT(sampler.Indices(1, 2), ElementsAre(15, 16));
  EXPECT_THAT(sampler.Indices(1, 3), ElementsAre(17, 18, 19));
  EXPECT_EQ(sampler.FirstPosition(1, 3), 17);
}

TEST(Sampler, AStepIsAFunctionOfItsNumber) {
  const SamplerOptions options = {.seed = 3, .dataset_size = 500, .global_batch = 32, .leaves = 4};
  Sampler forward = Made(options);
  std::map<std::pair<Step, int64_t>, std::vector<int64_t>> seen;
  for (Step step = 0; step < 40; ++step) {
    for (int64_t leaf = 0; leaf < 4; ++leaf) seen[{step, leaf}] = forward.Indices(step, leaf);
  }
  // Backwards, and by a sampler that has seen nothing before.
  Sampler backward = Made(options);
  for (auto entry = seen.rbegin(); entry != seen.rend(); ++entry)
    ASSERT_EQ(backward.Indices(entry->first.first, entry->first.second), entry->second);
  for (const Step step : {0, 17, 39}) {
    Sampler fresh = Made(options);
    ASSERT_EQ(fresh.Indices(step, 2), (seen[{step, 2}]));
  }
}

TEST(Sampler, EpochsAndSeedsDiffer) {
  std::set<std::vector<int64_t>> orders;
  for (const uint64_t seed : {0ULL, 1ULL, 1ULL << 32, ~0ULL}) {
    Sampler sampler = Made({.seed = seed, .dataset_size = 100, .global_batch = 100});
    for (int64_t epoch = 0; epoch < 5; ++epoch) orders.insert(Epoch(sampler, epoch));
  }
  EXPECT_EQ(orders.size(), 20u);
}

// Chi-square over 20 cells with 19 degrees of freedom: above 43.8 once in a thousand draws; the draw is seeded.
double ChiSquare(const std::vector<int64_t>& counts) {
  const double expected =
      static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0})) / static_cast<double>(counts.size());
  double sum = 0;
  for (const int64_t count : counts) sum += (static_cast<double>(count) - expected) * (static_cast<double>(count) - expected) / expected;
  return sum;
}

TEST(Sampler, EveryPlaceIsEvenlyDrawn) {
  constexpr int64_t kSize = 20, kEpochs = 4000;
  Sampler sampler = Made({.seed = 21, .dataset_size = kSize, .global_batch = kSize});
  std::vector<std::vector<int64_t>> counts(kSize, std::vector<int64_t>(kSize));
  std::vector<int64_t> neighbours(kSize);  // how far the second sample lies behind the first
  for (int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const auto order = sampler.Indices(epoch, 0);
    for (int64_t place = 0; place < kSize; ++place) ++counts[place][order[place]];
    ++neighbours[(order[1] - order[0] + kSize) % kSize];
  }
  for (const int64_t place : {0, 1, 10, 19}) EXPECT_LT(ChiSquare(counts[place]), 43.8) << place;
  neighbours.erase(neighbours.begin());  // never 0
  EXPECT_LT(ChiSquare(neighbours), 43.8);
}

TEST(Sampler, SequentialIsFileOrder) {
  Sampler sampler = Made({.dataset_size = 7, .kind = SamplerKind::kSequential, .global_batch = 3});
  EXPECT_THAT(Epoch(sampler, 0), ElementsAre(0, 1, 2, 3, 4, 5, 6, 0, 1));
  EXPECT_EQ(Epoch(sampler, 3), Epoch(sampler, 0));
}

// Each leaf goes through the whole set before it sees a sample again, and leaves do not follow each other.
TEST(Sampler, IndependentLeavesEachShuffleTheWholeSet) {
  Sampler sampler = Made({.seed = 2, .dataset_size = 30, .kind = SamplerKind::kIndependent, .global_batch = 20, .leaves = 2});
  std::vector<std::vector<int64_t>> streams(2);
  for (Step step = 0; step < 9; ++step) {
    for (int64_t leaf = 0; leaf < 2; ++leaf) {
      const auto part = sampler.Indices(step, leaf);
      ASSERT_EQ(part.size(), 10u);
      streams[leaf].insert(streams[leaf].end(), part.begin(), part.end());
    }
  }
  for (const auto& stream : streams) {
    for (int pass = 0; pass < 3; ++pass) ASSERT_EQ(Sorted({stream.begin() + pass * 30, stream.begin() + (pass + 1) * 30}), UpTo(30));
  }
  EXPECT_NE(streams[0], streams[1]);
  EXPECT_FALSE(std::equal(streams[0].begin(), streams[0].begin() + 30, streams[0].begin() + 30));
}

TEST(Cursor, SaysHowManySamplesWentBefore) {
  for (const Remainder remainder : {Remainder::kPad, Remainder::kDrop, Remainder::kPartial}) {
    Sampler sampler = Made({.dataset_size = 50, .global_batch = 8, .leaves = 3, .remainder = remainder});
    int64_t samples = 0;
    for (Step step = 0; step < 25; ++step) {
      const Cursor cursor = sampler.CursorAt(step);
      ASSERT_EQ(cursor.samples, samples) << step;
      ASSERT_EQ(cursor.epoch, step / sampler.steps_per_epoch());
      ASSERT_EQ(sampler.StepAt(cursor), step);
      const auto resumed = sampler.Resume(cursor);
      ASSERT_TRUE(resumed.ok()) << resumed.status();
      ASSERT_EQ(*resumed, step);
      for (int64_t leaf = 0; leaf < 3; ++leaf) samples += static_cast<int64_t>(sampler.Indices(step, leaf).size());
    }
  }
}

TEST(Cursor, OneOfAnotherRunIsRefused) {
  const Sampler sampler = Made({.dataset_size = 50, .global_batch = 8});
  const Cursor good = sampler.CursorAt(10);
  for (const Cursor& bad : {Cursor{-1, 0, 0}, Cursor{0, 7, 56}, Cursor{0, -1, 0}, Cursor{good.epoch, good.step_in_epoch, good.samples + 1},
                            Cursor{INT64_MAX, 0, 0}, Cursor{INT64_MAX, 6, INT64_MAX}, Cursor{INT64_MIN, INT64_MIN, INT64_MIN}}) {
    EXPECT_EQ(sampler.Resume(bad).status().code(), StatusCode::kFailedPrecondition) << bad.epoch << " " << bad.step_in_epoch;
  }
  // Another batch, another set, another policy.
  EXPECT_FALSE(Made({.dataset_size = 50, .global_batch = 16}).Resume(good).ok());
  EXPECT_FALSE(Made({.dataset_size = 57, .global_batch = 8}).Resume(good).ok());
  const auto other = Made({.dataset_size = 50, .global_batch = 8, .remainder = Remainder::kPartial}).Resume(good);
  EXPECT_THAT(Message(other.status()), AllOf(HasSubstr("resume at epoch 1"), HasSubstr("50 samples, batches of 8")));
}

TEST(SamplerOptions, WhatDoesNotFitIsRefused) {
  const auto error = [](const SamplerOptions& options) {
    const auto sampler = Sampler::Make(options);
    EXPECT_EQ(sampler.status().code(), StatusCode::kInvalidArgument);
    return Message(sampler.status());
  };
  EXPECT_THAT(error({.dataset_size = 0}), HasSubstr("0 samples"));
  EXPECT_THAT(error({.dataset_size = 10, .global_batch = 0}), HasSubstr("data.batch.global"));
  EXPECT_THAT(error({.dataset_size = 10, .global_batch = 4, .leaves = 0}), HasSubstr("micro_batches"));
  EXPECT_THAT(error({.dataset_size = 10, .global_batch = 4, .leaves = 5}), HasSubstr("micro_batches"));
  EXPECT_THAT(error({.dataset_size = 10, .global_batch = 11}), HasSubstr("11"));
  EXPECT_THAT(error({.dataset_size = 10, .global_batch = 11, .remainder = Remainder::kDrop}), HasSubstr("11"));
  EXPECT_THAT(error({.dataset_size = 10, .kind = SamplerKind::kIndependent, .global_batch = 4, .remainder = Remainder::kPartial}),
              HasSubstr("partial"));
}

TEST(SamplerOptions, WordsOfTheConfiguration) {
  EXPECT_EQ(*ParseSamplerKind("shuffled"), SamplerKind::kShuffled);
  EXPECT_EQ(*ParseSamplerKind("sequential"), SamplerKind::kSequential);
  EXPECT_EQ(*ParseSamplerKind("independent"), SamplerKind::kIndependent);
  EXPECT_EQ(*ParseRemainder("pad"), Remainder::kPad);
  EXPECT_EQ(*ParseRemainder("drop"), Remainder::kDrop);
  EXPECT_EQ(*ParseRemainder("partial"), Remainder::kPartial);
  EXPECT_FALSE(ParseSamplerKind("random").ok());
  EXPECT_FALSE(ParseRemainder("").ok());
}

TEST(SamplerPolicy, IsStatedInWords) {
  const auto policy = [](int64_t size, int64_t batch, Remainder remainder) {
    return Made({.dataset_size = size, .global_batch = batch, .remainder = remainder}).Policy();
  };
  EXPECT_EQ(policy(1797, 64, Remainder::kPad), "1,797 samples, batches of 64, 29 steps an epoch; the last batch repeats 59 samples (pad)");
  EXPECT_EQ(policy(1797, 64, Remainder::kDrop),
            "1,797 samples, batches of 64, 28 steps an epoch; 5 samples left out, others each epoch (drop)");
  EXPECT_EQ(policy(1797, 64, Remainder::kPartial),
            "1,797 samples, batches of 64, 29 steps an epoch; the last batch has 5 samples (partial)");
  EXPECT_EQ(policy(128, 128, Remainder::kPad), "128 samples, batches of 128, 1 step an epoch; every sample once");
}

}  // namespace
}  // namespace dtrain
