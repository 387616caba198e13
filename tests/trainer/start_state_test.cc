// Goal: a run may begin from tensors of another name and file; what does not fit is named. Method: files of the simulated
// and of the real storage, written by the safetensors writer.
#include "trainer/start_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "trainer/checkpoint/safetensors.h"
#include "trainer/parameter_hash.h"
#include "trainer/storage/posix_storage.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

HostTensor Tensor(const std::string& name, float first) {
  HostTensor tensor{{name, DType::kF32, {2}}, std::vector<std::byte>(8)};
  reinterpret_cast<float*>(tensor.bytes.data())[0] = first;
  return tensor;
}

class InitialTensors : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = (std::filesystem::temp_directory_path() / ("dtrain-start-" + std::to_string(getpid()) + ".safetensors")).string();
    const std::vector<HostTensor> tensors = {Tensor("a", 1), Tensor("b", 2)};
    const std::vector<TensorView> views = {tensors[0].view(), tensors[1].view()};
    auto file = PosixStorage().Create(path_);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(WriteSafetensors(**file, views, {}).ok());
    ASSERT_TRUE((*file)->Close().ok());
  }
  void TearDown() override { std::filesystem::remove(path_); }
  std::string path_;
};

TEST_F(InitialTensors, AreRenamedAndLeftOutByTheMap) {
  const auto tensors = LoadInitialTensors(PosixStorage(), path_, {{"a", "layer.weight"}, {"b", ""}});
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 1u);
  EXPECT_EQ((*tensors)[0].info.name, "layer.weight");
  EXPECT_EQ((*tensors)[0].bytes, Tensor("a", 1).bytes);
}

TEST_F(InitialTensors, AMapThatDoesNotFitIsRefused) {
  EXPECT_THAT(std::string(LoadInitialTensors(PosixStorage(), path_, {{"c", "x"}}).status().message()), HasSubstr("it holds a, b"));
  EXPECT_THAT(std::string(LoadInitialTensors(PosixStorage(), path_, {{"a", "b"}}).status().message()), HasSubstr("two tensors"));
  EXPECT_FALSE(LoadInitialTensors(PosixStorage(), path_ + ".absent", {}).ok());
}

TEST(NameMap, IsPairsSeparatedByCommas) {
  const auto names = ParseNameMap("a=b,c=");
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(*names, (std::map<std::string, std::string>{{"a", "b"}, {"c", ""}}));
  EXPECT_TRUE(ParseNameMap("")->empty());
  EXPECT_THAT(std::string(ParseNameMap("a").status().message()), HasSubstr("'a'"));
}

// sha256 of the eight bytes 00 00 80 3f 00 00 00 00, then 00 00 00 40 00 00 00 00, by sha256sum.
TEST(ParameterHash, IsSha256OverBytesInOrderOfName) {
  const std::vector<HostTensor> one = {Tensor("b", 2), Tensor("a", 1)}, two = {Tensor("a", 1), Tensor("b", 2)};
  EXPECT_EQ(ParameterHash(one), ParameterHash(two));
  EXPECT_EQ(ParameterHash(one), "f890f95e235a852addd9ce49715b31db07714b63b490acfa8adac22458c9712e");
  EXPECT_NE(ParameterHash(one), ParameterHash(std::vector<HostTensor>{Tensor("a", 2), Tensor("b", 1)}));
}

}  // namespace
}  // namespace dtrain
