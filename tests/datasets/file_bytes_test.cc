// Goal: packed files are unpacked exactly, damaged ones never, and no file can take more memory or time than it may. Method:
// gzip made by zlib, cut at every length, changed at every byte; a bomb; a folder and a pipe in place of a file.
#include "datasets/file_bytes.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "base/rng.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

std::string Text(const std::vector<std::byte>& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::string SomeText() {
  Rng rng(1, RngPurpose::kSynthetic);
  std::string text;
  for (int i = 0; i < 300; ++i) text += Cat(rng.Below(50), i % 10 == 9 ? "\n" : ",");
  return text;
}

TEST(Gunzip, GivesBackWhatWasPacked) {
  for (const std::string& text : {std::string(), std::string("a"), SomeText(), std::string(3 << 20, 'z')}) {
    const auto unpacked = GunzipBytes("g", AsBytes(Gzip(text)));
    ASSERT_TRUE(unpacked.ok()) << unpacked.status();
    EXPECT_TRUE(Text(*unpacked) == text) << text.size();
  }
}

TEST(Gunzip, SeveralMembersAreOneText) {
  const auto unpacked = GunzipBytes("g", AsBytes(Gzip("one ") + Gzip("") + Gzip("two")));
  ASSERT_TRUE(unpacked.ok()) << unpacked.status();
  EXPECT_EQ(Text(*unpacked), "one two");
}

TEST(Gunzip, EveryShorterLengthIsRefused) {
  const std::string packed = Gzip(SomeText());
  for (size_t length = 0; length < packed.size(); ++length) {
    EXPECT_EQ(GunzipBytes("g", AsBytes(std::string_view(packed).substr(0, length))).status().code(), StatusCode::kDataLoss) << length;
  }
}

// Of the header only the fields that carry no data (time, extra flags, system: bytes 4 to 9) may change unnoticed; what is
// unpacked then is the same.
TEST(Gunzip, EveryChangedByteIsNoticed) {
  const std::string text = SomeText(), packed = Gzip(text);
  for (size_t at = 0; at < packed.size(); ++at) {
    std::string changed = packed;
    changed[at] ^= 0x10;
    const auto unpacked = GunzipBytes("g", AsBytes(changed));
    if (unpacked.ok()) {
      EXPECT_TRUE(at >= 4 && at <= 9 && Text(*unpacked) == text) << at;
    } else {
      EXPECT_EQ(unpacked.status().code(), StatusCode::kDataLoss) << at;
    }
  }
}

TEST(Gunzip, BytesBehindTheEndAreRefused) {
  EXPECT_THAT(Message(GunzipBytes("g", AsBytes(Gzip("a") + "tail")).status()), HasSubstr("4 bytes after the end"));
}

TEST(Gunzip, ABombStopsAtTheLimit) {
  const std::string bomb = Gzip(std::string(64 << 20, '\0'));
  ASSERT_LT(bomb.size(), 1u << 20);
  const auto unpacked = GunzipBytes("bomb", AsBytes(bomb), 1 << 20);
  EXPECT_EQ(unpacked.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(unpacked.status()), HasSubstr("read bomb: more than 1,048,576 bytes"));
  // The limit itself is allowed.
  EXPECT_TRUE(GunzipBytes("g", AsBytes(Gzip(std::string(1000, 'a'))), 1000).ok());
  EXPECT_FALSE(GunzipBytes("g", AsBytes(Gzip(std::string(1001, 'a'))), 1000).ok());
}

TEST(ReadFile, PlainAndPackedByContentNotByName) {
  const TempFolder folder;
  for (const auto& [name, bytes] : {std::pair("plain.gz", std::string("text")), std::pair("packed", Gzip("text"))}) {
    const auto read = ReadFileBytes(folder.Write(name, bytes));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(Text(*read), "text");
  }
}

TEST(ReadFile, ErrorsNameThePath) {
  const TempFolder folder;
  const auto absent = ReadFileBytes(folder.path() + "/absent");
  EXPECT_EQ(absent.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(absent.status()), HasSubstr(folder.path() + "/absent"));
  EXPECT_THAT(Message(ReadFileBytes(folder.path()).status()), HasSubstr("not a regular file"));
  EXPECT_EQ(ReadFileBytes(folder.Write("large", "0123456789"), 9).status().code(), StatusCode::kResourceExhausted);
}

TEST(ReadFile, APipeThatNobodyWritesToIsRefusedAtOnce) {
  const TempFolder folder;
  const std::string path = folder.path() + "/pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(Message(ReadFileBytes(path).status()), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace dtrain
