// Goal: what `inspect data` says is true. Method: sets small enough to count by hand, the embedded ones against figures by
// Python, and the text as a whole for one of them.
#include "datasets/describe.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "datasets/synthetic.h"
#include "datasets/table.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

DatasetDescription Described(Value::Map config) {
  auto pair = OpenDataset(config);
  EXPECT_TRUE(pair.ok()) << pair.status();
  auto description = Describe(*pair);
  EXPECT_TRUE(description.ok()) << description.status();
  return *std::move(description);
}

DatasetPair PairOf(Table train, Table valid) {
  return {std::make_shared<const TableDataset>(std::move(train)), std::make_shared<const TableDataset>(std::move(valid)), "by hand"};
}

TEST(NumberSummary, EqualsTheDefinition) {
  NumberSummary numbers;
  EXPECT_EQ(numbers.std(), 0);
  for (const double x : {2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}) numbers.Add(x);
  EXPECT_EQ(numbers.count, 8);
  EXPECT_EQ(numbers.min, 2);
  EXPECT_EQ(numbers.max, 9);
  EXPECT_DOUBLE_EQ(numbers.mean, 5);
  EXPECT_DOUBLE_EQ(numbers.std(), 2);
  numbers.Add(std::nan(""));
  numbers.Add(-std::numeric_limits<double>::infinity());
  EXPECT_EQ(numbers.others, 2);
  EXPECT_EQ(numbers.count, 8);
  EXPECT_EQ(numbers.min, 2);
}

TEST(NumberSummary, KeepsItsDigitsFarFromZero) {
  NumberSummary numbers;
  for (int i = 0; i < 1000; ++i) numbers.Add(1e9 + i % 2);
  EXPECT_NEAR(numbers.std(), 0.5, 1e-6);
}

// Ranges and moments of the columns: by Python from the published file.
TEST(Describe, IrisCountsAndColumns) {
  const DatasetDescription iris = Described({{"dataset", "iris"}, {"valid", 0.2}, {"seed", 1}});
  EXPECT_EQ(iris.train_samples, 120);
  EXPECT_EQ(iris.valid_samples, 30);
  ASSERT_EQ(iris.classes.size(), 3u);
  int64_t train = 0;
  for (const ClassCount& count : iris.classes) {
    EXPECT_EQ(count.train + count.valid, 50);
    train += count.train;
  }
  EXPECT_EQ(train, 120);
  EXPECT_EQ(iris.classes[1].name, "versicolor");
  EXPECT_EQ(iris.rows_measured, 120);
  EXPECT_EQ(iris.inputs.count, 480);
  ASSERT_EQ(iris.columns.size(), 4u);
  EXPECT_NEAR(iris.columns[0].mean, 5.8433, 0.2);  // of 120 of 150 flowers
  EXPECT_NEAR(iris.columns[2].std(), 1.7594, 0.2);
}

TEST(Describe, ValuesAreThoseThatTheModelReads) {
  const DatasetDescription digits = Described(
      {{"transforms", Value::List{Value::Map{{"type", "normalize"}, {"mean", 0.5}, {"std", 0.25}}, Value::Map{{"type", "flip"}}}}});
  EXPECT_EQ(digits.inputs.min, -2);
  EXPECT_EQ(digits.inputs.max, 2);
  // By Python over all 1,797: mean 0.30526, std 0.37605.
  EXPECT_NEAR(digits.inputs.mean, (0.30526 - 0.5) / 0.25, 0.02);
  EXPECT_NEAR(digits.inputs.std(), 0.37605 / 0.25, 0.02);
}

TEST(Describe, ALargeSetIsLookedAtInPartAndSaysSo) {
  const DatasetDescription large = Described({{"dataset", "synthetic"}, {"samples", int64_t{1} << 40}, {"shape", 1}, {"classes", 2}});
  EXPECT_EQ(large.train_counted, 1'000'000);
  EXPECT_EQ(large.rows_measured, 10'000);
  EXPECT_EQ(large.classes[0].train + large.classes[1].train, 1'000'000);
  EXPECT_THAT(ToText(large), HasSubstr("(the first 10,000 samples to train)"));
  EXPECT_THAT(ToText(large), HasSubstr("train (of the first 1,000,000)"));
}

TEST(Describe, ATargetThatIsNoClassIsAnError) {
  Table good = {.schema = {.name = "t", .input_shape = {1}, .classes = 2}, .inputs = {1, 2}, .class_targets = {0, 1}}, bad = good;
  bad.class_targets[1] = 2;
  const auto description = Describe(PairOf(good, bad));
  EXPECT_EQ(description.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(description.status()), HasSubstr("target of sample 1 is 2, expected a class from 0 to 1"));
}

TEST(Describe, RegressionHasTargetsInPlaceOfClasses) {
  Table table = {.schema = {.name = "prices",
                            .task = TaskType::kRegression,
                            .input_shape = {2},
                            .target_dtype = DType::kF32,
                            .column_names = {"size", "age"}},
                 .inputs = {10, 1, 20, 2, 30, 6},
                 .number_targets = {100, 200, 600}};
  const auto description = Describe(PairOf(table, table));
  ASSERT_TRUE(description.ok()) << description.status();
  EXPECT_TRUE(description->classes.empty());
  EXPECT_DOUBLE_EQ(description->targets.mean, 300);
  const std::string text = ToText(*description);
  EXPECT_THAT(text, HasSubstr("targets      100 to 600, mean 300, std 216"));
  EXPECT_THAT(text, HasSubstr("  size   10 to 30, mean 20, std 8.165\n"));
  EXPECT_THAT(text, HasSubstr("  20, 2  ->  200\n"));
  EXPECT_THAT(text, Not(HasSubstr("classes")));
}

TEST(Describe, BinaryCountsBothSides) {
  Table table = {.schema = {.name = "b",
                            .task = TaskType::kBinary,
                            .input_shape = {1},
                            .target_dtype = DType::kF32,
                            .classes = 2,
                            .class_names = {"no", "yes"}},
                 .inputs = {1, 2, 3, 4},
                 .number_targets = {0, 1, 0, 0}};
  const auto description = Describe(PairOf(table, table));
  ASSERT_TRUE(description.ok()) << description.status();
  EXPECT_EQ(description->classes[0].train, 3);
  EXPECT_EQ(description->classes[1].train, 1);
  EXPECT_THAT(ToText(*description), HasSubstr("  yes            1   25.0 %          1   25.0 %\n"));
}

TEST(ToText, ShowsAnImageAsAPicture) {
  Table table = {.schema = {.name = "pictures", .input_shape = {1, 2, 3}, .classes = 2},
                 .inputs = {0, 1, 0.5, 1, 0, 0, 7, 7, 7, 7, 7, 7},
                 .class_targets = {1, 0}};
  const auto description = Describe(PairOf(table, table));
  ASSERT_TRUE(description.ok()) << description.status();
  EXPECT_EQ(ToText(*description),
            "by hand\n"
            "task         classification, 2 classes\n"
            "input        (1, 2, 3) F32\n"
            "target       I64\n"
            "samples      2 to train, 2 to validate\n"
            "fingerprint  " +
                description->fingerprint +
                "\n"
                "values       0 to 7, mean 3.708, std 3.307 (all samples to train)\n"
                "classes      train, valid\n"
                "  0              1   50.0 %          1   50.0 %\n"
                "  1              1   50.0 %          1   50.0 %\n"
                "first images\n"
                "  sample 0: 1    sample 1: 0\n"
                "    @@++\n"
                "  @@\n");
}

TEST(ToText, ThinsOutLargeImagesAndSurvivesWhatIsNoNumber) {
  Table table = {.schema = {.name = "large", .input_shape = {1, 64, 40}, .classes = 2}};
  table.inputs.assign(2 * 64 * 40, std::nanf(""));
  table.class_targets = {0, 1};
  const auto description = Describe(PairOf(table, table));
  ASSERT_TRUE(description.ok()) << description.status();
  EXPECT_EQ(description->inputs.others, 2 * 64 * 40);
  const std::string text = ToText(*description);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 12 + 32);
  EXPECT_THAT(text, HasSubstr("not finite"));
}

TEST(ToValue, CarriesTheSameForScripts) {
  const DatasetDescription iris = Described({{"dataset", "iris"}});
  const Value value = ToValue(iris);
  EXPECT_EQ(value.Int("train_samples", 0), 135);
  EXPECT_EQ(value.String("schema.task", ""), "classification");
  EXPECT_EQ(value.At("classes").if_list()->at(2).String("name", ""), "virginica");
  EXPECT_EQ(value.At("columns").if_list()->at(3).String("name", ""), "petal width");
  EXPECT_EQ(value.Double("inputs.mean", 0), iris.inputs.mean);
  EXPECT_EQ(value.At("first_rows").if_list()->size(), 3u);
  EXPECT_EQ(value.At("first_rows").if_list()->at(0).Doubles("inputs").size(), 4u);
  EXPECT_TRUE(value.At("targets").is_null());
  EXPECT_THAT(value.ToJson(), HasSubstr("\"fingerprint\": \"" + iris.fingerprint + "\""));
}

}  // namespace
}  // namespace dtrain
