// Goal: the configuration's data section becomes the sets that it names, and every mistake in it is told with its key.
// Method: small configurations; the split's promises; a set of a user's own.
#include "datasets/open_dataset.h"

#include <gmock/gmock.h>

#include "datasets/synthetic.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

DatasetPair Opened(Value::Map config) {
  auto pair = OpenDataset(config);
  EXPECT_TRUE(pair.ok()) << pair.status();
  return pair.ok() ? *std::move(pair) : DatasetPair();
}

std::string Error(Value::Map config, StatusCode code = StatusCode::kInvalidArgument) {
  const auto pair = OpenDataset(config);
  EXPECT_EQ(pair.status().code(), code);
  return Message(pair.status());
}

TEST(OpenDataset, DigitsAreCutTenToNinetyBySeed) {
  const DatasetPair pair = Opened({{"dataset", "digits"}, {"seed", 7}});
  EXPECT_EQ(pair.train->size(), 1617);
  EXPECT_EQ(pair.valid->size(), 180);
  EXPECT_EQ(pair.note, "digits: 1,617 samples to train, 180 to validate (10 % drawn by seed 7)");
  EXPECT_EQ(pair.train->fingerprint(), Opened({{"seed", 7}}).train->fingerprint());  // digits is the default
  EXPECT_NE(pair.train->fingerprint(), Opened({{"seed", 8}}).train->fingerprint());
}

TEST(OpenDataset, ValidTakesAFractionOrTest) {
  EXPECT_EQ(Opened({{"dataset", "iris"}, {"valid", 0.2}}).valid->size(), 30);
  EXPECT_THAT(Opened({{"dataset", "iris"}, {"valid", 0.125}}).note, HasSubstr("(12.5 % drawn by seed 0)"));
  const DatasetPair own = Opened({{"dataset", "synthetic"}, {"samples", 200}, {"shape", Value::List{3}}});
  EXPECT_EQ(own.train->size(), 200);
  EXPECT_EQ(own.valid->size(), 20);
  EXPECT_THAT(own.note, HasSubstr("the set's own test part"));
  EXPECT_EQ(Opened({{"dataset", "synthetic"}, {"samples", 200}, {"shape", Value::List{3}}, {"valid", 0.25}}).train->size(), 150);
  EXPECT_THAT(Error({{"dataset", "iris"}, {"valid", "test"}}), AllOf(HasSubstr("iris has no test part"), HasSubstr("valid: 0.1")));
  EXPECT_THAT(Error({{"valid", "some"}}), HasSubstr("data.valid: found \"some\""));
  EXPECT_THAT(Error({{"valid", 1}}), HasSubstr("data.valid: found 1"));
  EXPECT_THAT(Error({{"valid", 1.0}}), HasSubstr("data.valid: found 1"));
}

TEST(OpenDataset, TrainAndTestOfSyntheticAreOtherSamplesOfOneKind) {
  const DatasetPair pair = Opened({{"dataset", "synthetic"}, {"samples", 50}, {"shape", 4}, {"classes", 3}});
  EXPECT_THAT(pair.train->schema().input_shape, ElementsAre(4));
  const auto longer = *MakeSynthetic({.samples = 55, .shape = {4}, .classes = 3});
  EXPECT_EQ(Inputs(Gathered(*pair.valid, Range(0, 5))), Inputs(Gathered(*longer, Range(50, 55))));
}

TEST(OpenDataset, CsvWithAllItsSettings) {
  const TempFolder folder;
  const std::string path = folder.Write("a.csv", "y\tx\n1.5\t1\n2.5\t2\n3.5\t3\n4.5\t4\n");
  const DatasetPair pair =
      Opened({{"dataset", "csv"}, {"path", path}, {"label", "y"}, {"delimiter", "tab"}, {"task", "regression"}, {"valid", 0.25}});
  EXPECT_EQ(pair.train->size(), 3);
  EXPECT_EQ(pair.train->schema().task, TaskType::kRegression);
  EXPECT_EQ(Opened({{"dataset", "csv"}, {"path", path}, {"label", 0}, {"delimiter", "\\t"}, {"task", "regression"}, {"valid", 0.25}})
                .train->fingerprint(),
            pair.train->fingerprint());
  EXPECT_THAT(Error({{"dataset", "csv"}}), HasSubstr("data.path: absent"));
  EXPECT_THAT(Error({{"dataset", "csv"}, {"path", folder.path() + "/b.csv"}}, StatusCode::kNotFound), HasSubstr("b.csv: no such file"));
  EXPECT_THAT(Error({{"dataset", "csv"}, {"path", path}, {"delimiter", "::"}}), HasSubstr("data.delimiter"));
  EXPECT_THAT(Error({{"dataset", "csv"}, {"path", path}, {"task", "guess"}}), HasSubstr("unknown word \"guess\""));
  EXPECT_THAT(Error({{"dataset", "csv"}, {"path", path}, {"header", "yes"}}),
              HasSubstr("data.header: found \"yes\", expected true or false"));
}

TEST(OpenDataset, UnknownNamesAreAnsweredWithTheNearest) {
  EXPECT_THAT(Error({{"dataset", "fashion-mnits"}}), AllOf(HasSubstr("unknown data set"), HasSubstr("did you mean \"fashion-mnist\"?")));
  EXPECT_THAT(Error({{"dataset", 5}}), HasSubstr("data.dataset: found 5, expected a text"));
  EXPECT_THAT(DatasetNames(), IsSupersetOf({"csv", "digits", "fashion-mnist", "iris", "mnist", "synthetic"}));
}

TEST(OpenDataset, SettingsOutOfRangeAreRefused) {
  EXPECT_THAT(Error({{"dataset", "synthetic"}, {"samples", 0}}), HasSubstr("data.samples"));
  EXPECT_THAT(Error({{"dataset", "synthetic"}, {"classes", 1}}), HasSubstr("data.classes"));
  EXPECT_THAT(Error({{"dataset", "synthetic"}, {"shape", Value::List{2.5}}}), HasSubstr("data.shape"));
  EXPECT_THAT(Error({{"dataset", "synthetic"}, {"shape", Value::List{1e300}}}), HasSubstr("data.shape"));
  EXPECT_THAT(Error({{"dataset", "synthetic"}, {"shape", Value::List()}}), HasSubstr("data.shape"));
  EXPECT_THAT(Error({{"seed", "seven"}}), HasSubstr("data.seed"));
}

TEST(OpenDataset, TransformsAreForBothPartsAugmentationForTraining) {
  const DatasetPair pair =
      Opened({{"dataset", "digits"}, {"transforms", Value::List{Value::Map{{"type", "normalize"}, {"mean", 0.5}, {"std", 0.5}}}}});
  const DatasetPair plain = Opened({{"dataset", "digits"}});
  for (const auto& [with, without] : {std::pair(pair.train, plain.train), std::pair(pair.valid, plain.valid)}) {
    const auto a = Inputs(Gathered(*with, Range(0, 50))), b = Inputs(Gathered(*without, Range(0, 50)));
    for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], (b[i] - 0.5f) / 0.5f);
    EXPECT_EQ(with->fingerprint(), without->fingerprint());
  }
}

TEST(OpenDataset, AbsentMnistSaysWhereItLooked) {
  const TempFolder folder;
  EXPECT_THAT(
      Error({{"dataset", "mnist"}, {"root", folder.path()}}, StatusCode::kNotFound),
      AllOf(HasSubstr("no train-images-idx3-ubyte nor train-images-idx3-ubyte.gz in " + folder.path() + "/mnist"), HasSubstr("Hint")));
}

TEST(DataRoot, IsTheSettingElseTheEnvironmentElseData) {
  const char* before = std::getenv("DTRAIN_DATA");
  const std::string kept = before == nullptr ? "" : before;
  setenv("DTRAIN_DATA", "/from/environment", 1);
  EXPECT_EQ(*DataRoot(Value::Map{{"root", "/given"}}), "/given");
  EXPECT_EQ(*DataRoot(Value::Map{}), "/from/environment");
  setenv("DTRAIN_DATA", "", 1);
  EXPECT_EQ(*DataRoot(Value::Map{}), "data");
  unsetenv("DTRAIN_DATA");
  EXPECT_EQ(*DataRoot(Value::Map{{"root", Value()}}), "data");
  if (before != nullptr) setenv("DTRAIN_DATA", kept.c_str(), 1);
}

DTRAIN_REGISTER_DATASET("own_for_test", [](const Value& config) -> StatusOr<DatasetParts> {
  ASSIGN_OR_RETURN(auto whole, MakeSynthetic({.samples = config.Int("how_many", 10), .shape = {2}}));
  return DatasetParts{.train = std::move(whole)};
});

TEST(OpenDataset, AUsersOwnSetComesInByTheSameDoor) {
  EXPECT_EQ(Opened({{"dataset", "own_for_test"}, {"how_many", 40}, {"valid", 0.5}}).train->size(), 20);
}

}  // namespace
}  // namespace dtrain
