// Goal: what is written follows the published format, and no file can make the reader crash, over-allocate or accept what
// is not there. Method: one file compared byte for byte with the format's description, a table of files each wrong in
// one way, and random damage. (safetensors_python_test.py holds both sides against Python's own library.)
#include "trainer/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/codec.h"
#include "base/rng.h"
#include "tests/sim/sim_storage.h"
#include "tests/trainer/checkpoint/sample_checkpoint.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::vector<TensorView> Views(const std::vector<HostTensor>& tensors) {
  std::vector<TensorView> views;
  for (const HostTensor& tensor : tensors) views.push_back(tensor.view());
  return views;
}

StatusOr<std::string> Written(const std::vector<HostTensor>& tensors, const SafetensorsMetadata& metadata = {}) {
  SimStorage disk;
  ASSIGN_OR_RETURN(const auto file, disk.Create("f"));
  RETURN_IF_ERROR(WriteSafetensors(*file, Views(tensors), metadata));
  std::string text;
  for (const std::byte byte : disk.Contents("f")) text += static_cast<char>(byte);
  return text;
}

StatusOr<SafetensorsContents> Read(std::string_view bytes) {
  SimStorage disk;
  RETURN_IF_ERROR(disk.Create("f").status());
  const auto raw = std::as_bytes(std::span(bytes));
  disk.SetContents("f", {raw.begin(), raw.end()});
  ASSIGN_OR_RETURN(const auto file, disk.Open("f"));
  return ReadSafetensors(*file);
}

std::string WithLength(std::string_view header, std::string_view data = "") {
  Encoder length;
  length.U64(header.size());
  return Cat(std::string_view(reinterpret_cast<const char*>(length.bytes().data()), 8), header, data);
}

TEST(Safetensors, FileHasThePublishedLayoutWithDataOnAMultipleOf64) {
  const auto file = Written({SampleTensor<uint8_t>("c", DType::kU8, {3}, {7, 8, 9}), SampleTensor<float>("b", DType::kF32, {1, 2}, {1, 2}),
                             SampleTensor<float>("a", DType::kF32, {}, {3})},
                            {{"k", "v"}});
  ASSERT_TRUE(file.ok()) << file.status();
  std::string header = R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1,2],)"
                       R"("data_offsets":[4,12]},"c":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}})";
  while ((8 + header.size()) % 64 != 0) header += ' ';
  const std::string data("\0\0\x40\x40\0\0\x80\x3f\0\0\0\x40\7\x8\x9", 15);
  EXPECT_EQ(*file, WithLength(header, data));
}

TEST(Safetensors, TensorsReadBackEqualInOrderOfNameWhateverTheOrderTheyCameIn) {
  const Checkpoint sample = SampleCheckpoint(5);
  std::vector<HostTensor> reversed(sample.model.rbegin(), sample.model.rend());
  const auto file = Written(sample.model, sample.model_metadata);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*Written(reversed, sample.model_metadata), *file);
  const auto contents = Read(*file);
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_EQ(Describe({.model = contents->tensors, .model_metadata = contents->metadata, .state = sample.state}),
            Describe({.model = sample.model, .model_metadata = sample.model_metadata, .state = sample.state}));
}

TEST(Safetensors, EveryTensorIsAlignedToItsElement) {
  SimStorage disk;
  const auto file = disk.Create("f");
  const std::vector<HostTensor> tensors = {
      SampleTensor<uint8_t>("a", DType::kU8, {1}, {1}), SampleTensor<float>("b", DType::kF32, {1}, {1}),
      SampleTensor<uint16_t>("c", DType::kBF16, {3}, {1, 2, 3}), SampleTensor<double>("d", DType::kF64, {1}, {1})};
  ASSERT_TRUE(WriteSafetensors(**file, Views(tensors), {}).ok());
  const auto header = ReadSafetensorsHeader(**disk.Open("f"));
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->entries.size(), 4u);
  for (const auto& entry : header->entries) EXPECT_EQ(entry.begin % ElementBytes(entry.info.dtype), 0u) << entry.info.name;
}

TEST(Safetensors, FileWithoutTensorsReadsBackEmpty) {
  const auto contents = Read(*Written({}));
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_TRUE(contents->tensors.empty());
  EXPECT_TRUE(contents->metadata.empty());
}

TEST(Safetensors, WhatNoReaderWouldAcceptIsNotWritten) {
  const auto tensor = [](std::string name) { return SampleTensor<float>(std::move(name), DType::kF32, {1}, {1}); };
  EXPECT_THAT(Message(Written({tensor("a"), tensor("a")}).status()), HasSubstr("\"a\" stands twice"));
  EXPECT_THAT(Message(Written({tensor("__metadata__")}).status()), HasSubstr("reserves that name"));
  EXPECT_THAT(Message(Written({tensor("\xff")}).status()), HasSubstr("UTF-8"));
  HostTensor wrong = tensor("a");
  wrong.info.shape = {2};
  EXPECT_THAT(Message(Written({wrong}).status()), HasSubstr("4 bytes do not fit its shape"));
  wrong.info.shape = {INT64_MAX, 4};
  EXPECT_EQ(Written({wrong}).status().code(), StatusCode::kInvalidArgument);
}

struct Hostile {
  std::string header, data, message;
};

TEST(Safetensors, FileThatIsWrongInOneWayIsRefusedWithTheReason) {
  const std::vector<Hostile> files = {
      {R"([])", "", "does not begin with '{'"},
      {R"( {})", "", "does not begin with '{'"},
      {R"({)", "", "the header: parse JSON"},
      {R"({"a":1})", "", "expected a map"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", "1234", "data_offsets"},
      {R"({"a":{"shape":[1],"data_offsets":[0,4]}})", "1234", "has no dtype"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "1234", "has no shape"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", "1234", "unknown key \"x\""},
      {R"({"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})", "1234", "the dtype \"F8_E4M3\" is unknown; dtrain has F32, F64"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234", "shape holds -1"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "1234", "shape holds 1.0"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}})", "1234", "more bytes than fit"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", "", "more bytes than fit"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "1234", "expected [begin, end]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", "1234", "expected [begin, end]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", "1234", "expected [begin, end]"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "1234", "ends at byte 8 of the data, but the file holds only 4"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "1234", "has 4 bytes, but F32 of shape [2] takes 8"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "12345", "no tensor owns the last 1 bytes"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})", "12345", "no tensor owns the 1 bytes before"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", "123456",
       "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "1234", "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "12",
       "stands twice"},
      {R"({"__metadata__":{"k":1}})", "", "the value of \"k\" is not a text"},
      {R"({"__metadata__":[]})", "", "is not a map"},
      {R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", std::string("\1\2", 2), "holds 2, a BOOL is 0 or 1"},
  };
  for (const Hostile& file : files) {
    const auto contents = Read(WithLength(file.header, file.data));
    EXPECT_FALSE(contents.ok()) << file.header;
    EXPECT_THAT(Message(contents.status()), HasSubstr(file.message)) << file.header;
    EXPECT_THAT(contents.status().code(), ::testing::AnyOf(StatusCode::kDataLoss, StatusCode::kUnimplemented));
  }
}

TEST(Safetensors, HeaderLengthBeyondTheFileOrTheLimitIsRefusedBeforeMemoryIsTaken) {
  EXPECT_THAT(Message(Read("").status()), HasSubstr("the file has 0 bytes"));
  EXPECT_THAT(Message(Read("1234567").status()), HasSubstr("the file has 7 bytes"));
  EXPECT_THAT(Message(Read(std::string("\3\0\0\0\0\0\0\0{}", 10)).status()), HasSubstr("but the file holds only 10"));
  EXPECT_THAT(Message(Read(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)).status()), HasSubstr("at most 100000000"));
}

TEST(Safetensors, FileThatShrinksWhileItIsReadIsAnError) {
  SimStorage disk;
  const auto file = disk.Create("f");
  const auto tensors = SampleCheckpoint(1).model;
  ASSERT_TRUE(WriteSafetensors(**file, Views(tensors), {}).ok());
  const uint64_t bytes = disk.Contents("f").size();
  for (uint64_t end = 0; end < bytes; ++end) {
    disk.CutReadsAt(end);
    EXPECT_EQ(ReadSafetensors(**disk.Open("f")).status().code(), StatusCode::kOutOfRange) << end;
  }
}

TEST(Safetensors, RandomDamageNeverGivesATensorThatTheFileDoesNotHold) {
  const std::string good = *Written(SampleCheckpoint(1).model, {{"k", "v"}});
  Rng rng(11, RngPurpose::kSynthetic);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = good;
    for (uint64_t n = 1 + rng.Below(3); n > 0; --n) {
      const size_t at = rng.Below(damaged.size());
      switch (rng.Below(4)) {
        case 0:
          damaged[at] = static_cast<char>(rng.Below(256));
          break;
        case 1:
          damaged[at] = "0123456789[]{}\",:-e. "[rng.Below(21)];
          break;
        case 2:
          damaged.erase(at, 1 + rng.Below(4));
          break;
        case 3:
          damaged.insert(at, 1, damaged[rng.Below(damaged.size())]);
          break;
      }
    }
    const auto contents = Read(damaged);
    if (!contents.ok()) continue;
    ++accepted;  // damage in a name or in the data: still a file that fits together
    size_t bytes = 0;
    for (const HostTensor& tensor : contents->tensors) {
      ASSERT_EQ(static_cast<int64_t>(tensor.bytes.size()), tensor.info.bytes());
      bytes += tensor.bytes.size();
    }
    ASSERT_LE(bytes, damaged.size());
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace dtrain
