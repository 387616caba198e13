// Goal: MNIST and Fashion-MNIST are the published ones or refused. Method: the real files, where they are, against class counts
// by Python; damaged copies of them.
#include "datasets/mnist.h"

#include <gmock/gmock.h>

#include "datasets/describe.h"
#include "datasets/file_bytes.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int64_t> ClassCounts(const Dataset& dataset) {
  std::vector<int64_t> counts(10);
  Batch batch;
  for (int64_t first = 0; first < dataset.size(); first += 1000) {
    EXPECT_TRUE(dataset.Gather(Range(first, first + 1000), nullptr, &batch).ok());
    for (const int64_t target : batch.targets<int64_t>()) ++counts.at(static_cast<size_t>(target));
  }
  return counts;
}

TEST(RealMnist, IsThePublishedSet) {
  DTRAIN_NEEDS_DATA("mnist/train-images-idx3-ubyte.gz");
  const auto parts = OpenMnist("mnist", RealDataFolder());
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_EQ(parts->train->size(), 60000);
  EXPECT_EQ(parts->test->size(), 10000);
  EXPECT_THAT(parts->train->schema().input_shape, ElementsAre(1, 28, 28));
  EXPECT_THAT(ClassCounts(*parts->train), ElementsAre(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949));
  EXPECT_THAT(ClassCounts(*parts->test), ElementsAre(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009));
  EXPECT_THAT(ClassTargets(Gathered(*parts->train, Range(0, 5))), ElementsAre(5, 0, 4, 1, 9));
  double ink = 0;  // of the first image, by Python: 27,525
  for (const float pixel : Inputs(Gathered(*parts->train, {0}))) ink += pixel;
  EXPECT_NEAR(ink * 255, 27525, 0.01);
  // Of the first 10,000 images, by Python in integers.
  const auto description = Describe({.train = parts->train, .valid = parts->test});
  ASSERT_TRUE(description.ok()) << description.status();
  EXPECT_EQ(description->rows_measured, 10000);
  EXPECT_NEAR(description->inputs.mean, 0.13112575030012, 1e-8);
  EXPECT_NEAR(description->inputs.std(), 0.30869854650159, 1e-8);
  EXPECT_EQ(description->classes[1].train, 6742);
  EXPECT_EQ(description->classes[9].valid, 1009);
}

TEST(RealFashionMnist, IsThePublishedSet) {
  DTRAIN_NEEDS_DATA("fashion-mnist/train-images-idx3-ubyte.gz");
  const auto parts = OpenMnist("fashion-mnist", RealDataFolder() + "/fashion-mnist/");  // the folder itself will do too
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_THAT(ClassCounts(*parts->train), Each(6000));
  EXPECT_THAT(ClassCounts(*parts->test), Each(1000));
  EXPECT_THAT(ClassTargets(Gathered(*parts->train, Range(0, 5))), ElementsAre(9, 0, 0, 3, 0));
  EXPECT_EQ(parts->train->schema().class_names[9], "Ankle boot");
}

// One pixel of the test images is another one; the other three files are as published.
TEST(RealMnist, AChangedByteIsRefusedByItsHash) {
  DTRAIN_NEEDS_DATA("mnist/t10k-images-idx3-ubyte.gz");
  const TempFolder folder;
  const std::string from = RealDataFolder() + "/mnist/";
  std::filesystem::create_directories(folder.path() + "/mnist");
  for (const std::string name : {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz"}) {
    std::filesystem::create_symlink(std::filesystem::absolute(from + name), folder.path() + "/mnist/" + name);
  }
  auto images = ReadFileBytes(from + "t10k-images-idx3-ubyte.gz");
  ASSERT_TRUE(images.ok()) << images.status();
  (*images)[images->size() / 2] ^= std::byte{1};
  folder.Write("mnist/t10k-images-idx3-ubyte", {reinterpret_cast<const char*>(images->data()), images->size()});
  const auto parts = OpenMnist("mnist", folder.path());
  EXPECT_EQ(parts.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(parts.status()), AllOf(HasSubstr("mnist/t10k-images-idx3-ubyte: sha256 of the unpacked bytes"),
                                             HasSubstr("expected 0fa7898d"), HasSubstr("Hint")));
}

TEST(Mnist, AFileThatIsNoIdxIsRefused) {
  const TempFolder folder;
  for (const std::string name :
       {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}) {
    folder.Write("mnist/" + name, "<html>not found</html>");
  }
  const auto parts = OpenMnist("mnist", folder.path());
  EXPECT_THAT(Message(parts.status()), AllOf(HasSubstr("train-images-idx3-ubyte"), HasSubstr("magic number")));
}

}  // namespace
}  // namespace dtrain
