// Goal: sets give exactly the samples asked for: subsets, splits, the embedded ones, computed ones. Method: counts and sums
// that were computed apart (by Python, from the published files), and identities between a set and its parts.
#include "datasets/dataset.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "datasets/embedded.h"
#include "datasets/split.h"
#include "datasets/synthetic.h"
#include "datasets/table.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int64_t> ClassCounts(const Dataset& dataset) {
  std::vector<int64_t> counts(static_cast<size_t>(dataset.schema().classes));
  for (const int64_t target : ClassTargets(Gathered(dataset, Range(0, dataset.size())))) ++counts.at(static_cast<size_t>(target));
  return counts;
}

std::shared_ptr<const Dataset> Numbered(int64_t rows) {
  Table table = {.schema = {.name = "numbered", .input_shape = {1}, .classes = 2}};
  for (int64_t i = 0; i < rows; ++i) {
    table.inputs.push_back(static_cast<float>(i));
    table.class_targets.push_back(i % 2);
  }
  return std::make_shared<const TableDataset>(std::move(table));
}

TEST(Batch, MemoryIsAlignedKeptAndGrows) {
  const DatasetSchema schema = {.name = "s", .input_shape = {3, 5}};
  Batch batch;
  batch.Resize(schema, 0);
  EXPECT_EQ(batch.size(), 0);
  batch.Resize(schema, 100);
  const std::byte* memory = batch.input_data();
  for (const int64_t rows : {1, 7, 100, 0, 50}) {
    batch.Resize(schema, rows);
    EXPECT_EQ(batch.input_data(), memory);
    EXPECT_THAT(batch.input_info().shape, ElementsAre(rows, 3, 5));
    EXPECT_THAT(batch.target_info().shape, ElementsAre(rows));
    EXPECT_EQ(batch.inputs<float>().size(), static_cast<size_t>(rows * 15));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(batch.input_data()) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(batch.target_data()) % 64, 0u);
  }
  batch.Resize(schema, 1000);
  std::fill_n(batch.input_data(), batch.input_info().bytes(), std::byte{1});  // all of it is ours
}

TEST(Subset, MapsRowsAlsoThroughASubset) {
  const Subset odd(Numbered(10), {1, 3, 5, 7, 9});
  EXPECT_EQ(odd.size(), 5);
  EXPECT_THAT(Inputs(Gathered(odd, {4, 0, 4})), ElementsAre(9, 1, 9));
  EXPECT_THAT(ClassTargets(Gathered(odd, {4, 0})), ElementsAre(1, 1));
  const Subset nested(std::make_shared<const Subset>(odd), {2, 0});
  EXPECT_THAT(Inputs(Gathered(nested, {0, 1})), ElementsAre(5, 1));
}

TEST(Subset, TheFingerprintSeesRowsAndSet) {
  std::set<std::string> prints = {Numbered(10)->fingerprint()};
  prints.insert(Subset(Numbered(10), {1, 2}).fingerprint());
  prints.insert(Subset(Numbered(10), {2, 1}).fingerprint());
  prints.insert(Subset(Numbered(11), {1, 2}).fingerprint());
  EXPECT_EQ(prints.size(), 4u);
  EXPECT_EQ(Subset(Numbered(10), {1, 2}).fingerprint(), Subset(Numbered(10), {1, 2}).fingerprint());
  for (const std::string& print : prints) EXPECT_EQ(print.size(), 64u);
}

TEST(DatasetDeath, AnIndexOutsideStopsAtACheck) {
  const auto dataset = Numbered(3);
  const Subset subset(dataset, std::vector<int64_t>{0, 1});
  Batch batch;
  const std::vector<int64_t> outside = {2}, below = {-1};
  EXPECT_DEATH(static_cast<void>(subset.Gather(outside, nullptr, &batch)), "index");
  EXPECT_DEATH(static_cast<void>(dataset->Gather(below, nullptr, &batch)), "index");
}

TEST(Split, GivesEveryRowOnceAndRoundsTheFraction) {
  for (const int64_t size : {2, 3, 10, 150, 1797}) {
    for (const double fraction : {0.1, 0.25, 0.5, 0.9}) {
      const auto wanted = static_cast<size_t>(std::llround(fraction * static_cast<double>(size)));
      const auto rows = SplitByFraction(size, fraction, 7);
      if (wanted == 0 || wanted == static_cast<size_t>(size)) {
        EXPECT_EQ(rows.status().code(), StatusCode::kInvalidArgument);
        continue;
      }
      ASSERT_TRUE(rows.ok()) << rows.status();
      EXPECT_EQ(rows->valid.size(), wanted);
      EXPECT_TRUE(std::is_sorted(rows->train.begin(), rows->train.end()) && std::is_sorted(rows->valid.begin(), rows->valid.end()));
      std::vector<int64_t> all = rows->train;
      all.insert(all.end(), rows->valid.begin(), rows->valid.end());
      std::sort(all.begin(), all.end());
      EXPECT_EQ(all, Range(0, size));
    }
  }
}

TEST(Split, DependsOnTheSeedAloneAndDrawsEvenly) {
  EXPECT_EQ(SplitByFraction(100, 0.2, 1)->valid, SplitByFraction(100, 0.2, 1)->valid);
  EXPECT_NE(SplitByFraction(100, 0.2, 1)->valid, SplitByFraction(100, 0.2, 2)->valid);
  std::vector<int> drawn(10);
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    const auto rows = SplitByFraction(10, 0.3, seed);
    ASSERT_TRUE(rows.ok());
    for (const int64_t row : rows->valid) ++drawn[static_cast<size_t>(row)];
  }
  for (const int count : drawn) EXPECT_NEAR(count, 600, 85);  // 4 standard deviations
}

TEST(Split, FractionsOutOfRangeAreRefused) {
  for (const double fraction : {0.0, 1.0, -0.1, 1.5, std::nan("")}) EXPECT_FALSE(SplitByFraction(100, fraction, 0).ok()) << fraction;
  EXPECT_THAT(Message(SplitByFraction(3, 0.1, 0).status()), HasSubstr("leaves 0 to validate and 3 to train"));
}

// Counts per class and the sum of all pixels: by Python from the published file.
TEST(Embedded, DigitsAreThePublishedOnes) {
  const auto digits = OpenDigits();
  ASSERT_TRUE(digits.ok()) << digits.status();
  EXPECT_EQ((*digits)->size(), 1797);
  EXPECT_THAT((*digits)->schema().input_shape, ElementsAre(1, 8, 8));
  EXPECT_THAT(ClassCounts(**digits), ElementsAre(178, 182, 177, 183, 181, 182, 181, 179, 174, 180));
  EXPECT_THAT(ClassTargets(Gathered(**digits, Range(0, 10))), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  double sum = 0;
  for (const float pixel : Inputs(Gathered(**digits, Range(0, 1797)))) {
    ASSERT_TRUE(pixel >= 0 && pixel <= 1);
    sum += pixel;
  }
  EXPECT_EQ(sum * 16, 561718.0);
  const auto first = Inputs(Gathered(**digits, {0}));
  EXPECT_THAT(std::vector<float>(first.begin(), first.begin() + 6), ElementsAre(0, 0, 5 / 16.f, 13 / 16.f, 9 / 16.f, 1 / 16.f));
}

TEST(Embedded, IrisIsThePublishedOne) {
  const auto iris = OpenIris();
  ASSERT_TRUE(iris.ok()) << iris.status();
  EXPECT_EQ((*iris)->size(), 150);
  EXPECT_THAT(ClassCounts(**iris), ElementsAre(50, 50, 50));
  EXPECT_THAT((*iris)->schema().class_names, ElementsAre("setosa", "versicolor", "virginica"));
  EXPECT_THAT(Inputs(Gathered(**iris, {0})), ElementsAre(5.1f, 3.5f, 1.4f, 0.2f));
  std::vector<double> sums(4);
  const auto all = Inputs(Gathered(**iris, Range(0, 150)));
  for (size_t i = 0; i < all.size(); ++i) sums[i % 4] += all[i];
  const std::vector<double> means = {5.843333, 3.057333, 3.758, 1.199333};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(sums[i] / 150, means[i], 1e-5);
}

TEST(Synthetic, ASampleDependsOnItsNumberAlone) {
  const SyntheticOptions options = {.seed = 3, .samples = 1000, .shape = {2, 3}, .classes = 4};
  const auto whole = *MakeSynthetic(options);
  SyntheticOptions shorter = options;
  shorter.samples = 10;
  shorter.first_sample = 500;
  const auto part = *MakeSynthetic(shorter);
  EXPECT_EQ(Inputs(Gathered(*whole, Range(500, 510))), Inputs(Gathered(*part, Range(0, 10))));
  EXPECT_EQ(ClassTargets(Gathered(*whole, Range(500, 510))), ClassTargets(Gathered(*part, Range(0, 10))));
  EXPECT_NE(whole->fingerprint(), part->fingerprint());
  EXPECT_EQ(whole->fingerprint(), (*MakeSynthetic(options))->fingerprint());
}

// 2^40 samples cost nothing, and those 2^32 apart are not the same.
TEST(Synthetic, OfAnySize) {
  const auto large = *MakeSynthetic({.samples = int64_t{1} << 40, .shape = {4}, .classes = 2});
  const int64_t far = int64_t{1} << 32;
  EXPECT_NE(Inputs(Gathered(*large, {5})), Inputs(Gathered(*large, {far + 5})));
  EXPECT_EQ(Gathered(*large, {(int64_t{1} << 40) - 1}).size(), 1);
}

TEST(Synthetic, ClassesAreEvenAndMomentsAsDocumented) {
  constexpr int64_t kSamples = 20'000;
  const auto dataset = *MakeSynthetic({.seed = 1, .samples = kSamples, .shape = {16}, .classes = 5});
  for (const int64_t count : ClassCounts(*dataset)) EXPECT_NEAR(count, kSamples / 5, 4 * 57);
  // Within a class elements are the prototype's plus noise of variance 1, so a class's mean has a standard error of 1/63.
  const Batch batch = Gathered(*dataset, Range(0, kSamples));
  const auto inputs = batch.inputs<float>();
  double sum = 0, squares = 0;
  int64_t count = 0;
  std::vector<double> mean(16);
  for (int pass = 0; pass < 2; ++pass) {
    for (int64_t row = 0; row < kSamples; ++row) {
      if (batch.targets<int64_t>()[row] != 2) continue;
      for (int64_t i = 0; i < 16; ++i) {
        const double x = inputs[row * 16 + i];
        if (pass == 0) {
          mean[i] += x;
        } else {
          squares += (x - mean[i]) * (x - mean[i]);
        }
      }
      if (pass == 0) ++count;
    }
    if (pass == 0) {
      for (double& m : mean) m /= static_cast<double>(count);
    }
  }
  for (const double m : mean) {
    sum += m * m;
    EXPECT_LT(std::fabs(m), std::sqrt(3.0) + 0.1);
  }
  EXPECT_NEAR(squares / static_cast<double>(16 * count), 1, 0.03);
  EXPECT_NEAR(sum / 16, 1, 0.7);
}

TEST(Synthetic, OptionsOutOfRangeAreRefused) {
  EXPECT_THAT(Message(MakeSynthetic({.samples = 0}).status()), HasSubstr("data.samples"));
  EXPECT_THAT(Message(MakeSynthetic({.classes = 1}).status()), HasSubstr("data.classes"));
  EXPECT_THAT(Message(MakeSynthetic({.shape = {}}).status()), HasSubstr("data.shape"));
  EXPECT_THAT(Message(MakeSynthetic({.shape = {0}}).status()), HasSubstr("data.shape"));
  EXPECT_THAT(Message(MakeSynthetic({.shape = {INT64_MAX, INT64_MAX}}).status()), HasSubstr("too large"));
  EXPECT_THAT(Message(MakeSynthetic({.classes = INT64_MAX}).status()), HasSubstr("too large"));
}

TEST(TaskType, NamesReadBack) {
  for (const TaskType task : {TaskType::kClassification, TaskType::kBinary, TaskType::kRegression})
    EXPECT_EQ(*ParseTaskType(TaskTypeName(task)), task);
  EXPECT_FALSE(ParseTaskType("Regression").ok());
}

}  // namespace
}  // namespace dtrain
