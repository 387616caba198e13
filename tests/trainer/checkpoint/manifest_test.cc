// Goal: a manifest reads back as it was written and vouches for exactly the files it lists; no other text is taken for
// one. Method: round trip, its documented text, every byte flipped and every length, texts sealed right but wrong inside.
#include "trainer/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "base/crc32c.h"
#include "base/text.h"
#include "tests/sim/sim_storage.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

const Manifest kSample = {
    .step = 500, .files = {{"model.safetensors", {.bytes = 105728, .crc32c = 0x0badf00d}}, {"state.json", {.bytes = 0, .crc32c = 0}}}};

// `body` with the checksum that makes it whole.
std::string Sealed(const std::string& body) {
  char seal[32];
  std::snprintf(seal, sizeof seal, "\"crc32c\": \"%08x\"}\n", Crc32c(Bytes(body)));
  return body + seal;
}

TEST(Manifest, HasTheDocumentedText) {
  const std::string body =
      "{\"format_version\": 1, \"step\": 500, \"files\": {\n"
      "\"model.safetensors\": {\"bytes\": 105728, \"crc32c\": \"0badf00d\"},\n"
      "\"state.json\": {\"bytes\": 0, \"crc32c\": \"00000000\"}},\n";
  EXPECT_EQ(EncodeManifest(kSample), Sealed(body));
}

TEST(Manifest, ReadsBackEqual) {
  for (const Manifest& manifest : {kSample, Manifest{}, Manifest{.step = INT64_MAX, .files = {{"a \"b\"", {INT64_MAX, 0xffffffff}}}}}) {
    const auto read = DecodeManifest(EncodeManifest(manifest));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, manifest);
  }
}

TEST(Manifest, EveryFlippedBitAndEveryOtherLengthIsRefused) {
  const std::string good = EncodeManifest(kSample);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    EXPECT_EQ(DecodeManifest(bad).status().code(), StatusCode::kDataLoss) << "bit " << bit;
  }
  for (size_t bytes = 0; bytes < good.size(); ++bytes)
    EXPECT_EQ(DecodeManifest(good.substr(0, bytes)).status().code(), StatusCode::kDataLoss) << bytes;
  for (const char* more : {"\n", " ", "x", "{}"}) EXPECT_EQ(DecodeManifest(good + more).status().code(), StatusCode::kDataLoss);
}

// Somebody who can seal a manifest still gets no other file read than those of the directory.
TEST(Manifest, SealedTextThatIsWrongInsideIsRefused) {
  const auto with_files = [](const std::string& files) {
    return Sealed("{\"format_version\": 1, \"step\": 1, \"files\": {" + files + "},\n");
  };
  const std::vector<std::pair<std::string, std::string>> texts = {
      {with_files("\"../a\": {\"bytes\": 1, \"crc32c\": \"00000000\"}"), "the entry of \"../a\""},
      {with_files("\"/etc/passwd\": {\"bytes\": 1, \"crc32c\": \"00000000\"}"), "the entry of \"/etc/passwd\""},
      {with_files("\"\": {\"bytes\": 1, \"crc32c\": \"00000000\"}"), "the entry of \"\""},
      {with_files("\"a\": {\"bytes\": -1, \"crc32c\": \"00000000\"}"), "the entry of \"a\""},
      {with_files("\"a\": {\"bytes\": 1.5, \"crc32c\": \"00000000\"}"), "the entry of \"a\""},
      {with_files("\"a\": {\"bytes\": 1, \"crc32c\": \"0000000\"}"), "the entry of \"a\""},
      {with_files("\"a\": {\"bytes\": 1, \"crc32c\": \"0000000G\"}"), "the entry of \"a\""},
      {with_files("\"a\": {\"bytes\": 1, \"crc32c\": \"ABCDEF01\"}"), "the entry of \"a\""},
      {with_files("\"a\": {\"bytes\": 1, \"crc32c\": 0}"), "the entry of \"a\""},
      {with_files("\"a\": 1"), "the entry of \"a\""},
      {Sealed("{\"step\": 1, \"files\": {},\n"), "has no format_version"},
      {Sealed("{\"format_version\": 0, \"step\": 1, \"files\": {},\n"), "no step or no files"},
      {Sealed("{\"format_version\": 1, \"step\": -1, \"files\": {},\n"), "no step or no files"},
      {Sealed("{\"format_version\": 1, \"step\": 1, \"files\": [],\n"), "no step or no files"},
      {Sealed("{\"format_version\": 1, \"files\": {},\n"), "no step or no files"},
      {Sealed("not JSON"), "parse JSON"},
      {Sealed(""), "parse JSON"},
  };
  for (const auto& [text, message] : texts) {
    const auto status = DecodeManifest(text).status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << text;
    EXPECT_THAT(Message(status), HasSubstr(message)) << text;
  }
}

TEST(Manifest, NewerVersionIsToldFromDamage) {
  const auto status = DecodeManifest(Sealed("{\"format_version\": 7, \"what\": [],\n")).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status),
              HasSubstr("manifest.json has format version 7, this dtrain reads up to 1\n  Hint: use the dtrain that wrote it"));
}

TEST(Manifest, GiganticFileIsRefusedUnread) {
  SimStorage disk;
  ASSERT_TRUE(disk.CreateDirectories("d").ok());
  ASSERT_TRUE(disk.Create("d/manifest.json").ok());
  disk.SetContents("d/manifest.json", std::vector<std::byte>((1 << 20) + 1));
  EXPECT_THAT(Message(ReadManifest(disk, "d").status()), HasSubstr("has 1048577 bytes, at most 1048576 are read"));
}

TEST(ChecksummedFile, LearnsSizeAndChecksumOfWhatWasWrittenInAnyParts) {
  SimStorage disk;
  ChecksummedFile file(*disk.Create("f"));
  std::vector<std::byte> bytes((3 << 20) + 5);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 1000);
  const auto whole = std::span<const std::byte>(bytes);
  ASSERT_TRUE(file.Append(whole.first(3)).ok());
  ASSERT_TRUE(file.Append({}).ok());
  ASSERT_TRUE(file.Append(whole.subspan(3)).ok());
  EXPECT_EQ(file.written(), (ManifestFile{.bytes = bytes.size(), .crc32c = Crc32c(whole)}));
  EXPECT_EQ(disk.Contents("f"), bytes);
}

}  // namespace
}  // namespace dtrain
