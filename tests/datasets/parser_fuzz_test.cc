// Goal: no bytes make a reader crash, hang or give out rows that do not fit its schema. Method: valid files changed at random
// (bits flipped, pieces cut, doubled and put elsewhere, special bytes put in), seeded; runs under AddressSanitizer too.
#include <gmock/gmock.h>

#include "base/rng.h"
#include "datasets/csv.h"
#include "datasets/file_bytes.h"
#include "datasets/idx.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

constexpr int kMutants = 20'000;

std::string Mutated(std::string bytes, Rng& rng) {
  constexpr std::string_view kSpecial("\"\",\n\r\t;\0\xff\xEF\xBB\xBF\x80-+.eE09", 21);
  for (uint64_t changes = 1 + rng.Below(4); changes > 0; --changes) {
    const size_t at = rng.Below(bytes.size() + 1), length = rng.Below(std::min<size_t>(bytes.size() - at, 8) + 1);
    switch (rng.Below(5)) {
      case 0:
        if (at < bytes.size()) bytes[at] ^= static_cast<char>(1 << rng.Below(8));
        break;
      case 1:
        bytes.erase(at, length);
        break;
      case 2:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 3:
        bytes.insert(at, 1, kSpecial[rng.Below(kSpecial.size())]);
        break;
      default:
        bytes.resize(at);
        break;
    }
  }
  return bytes;
}

TEST(Fuzz, CsvGivesATableThatFitsOrAnError) {
  const std::vector<std::string> seeds = {"x,\"y \"\"z\"\"\",l\r\n1,2.5,a\r\n-3,4e2,\"b\nc\"\r\n\"7\",8,a\r\n", "1;2;0\n3;4;1\n5;6;0\n",
                                          "\xEF\xBB\xBF"
                                          "a,b\n0.5,1\n1.5,2\n"};
  Rng rng(11, RngPurpose::kSynthetic);
  int accepted = 0;
  for (int i = 0; i < kMutants; ++i) {
    const std::string text = Mutated(seeds[i % seeds.size()], rng);
    const CsvOptions options = {
        .header = rng.Below(2) == 0, .delimiter = i % 3 == 1 ? ';' : ',', .task = static_cast<TaskType>(rng.Below(3))};
    auto table = ParseCsv("f", text, options);
    if (!table.ok()) {
      ASSERT_EQ(table.status().code(), StatusCode::kInvalidArgument);
      continue;
    }
    ++accepted;
    ASSERT_GT(table->rows(), 0);
    ASSERT_EQ(table->inputs.size(), static_cast<size_t>(table->rows() * table->schema.input_elements()));
    ASSERT_EQ(table->schema.column_names.size(), static_cast<size_t>(table->schema.input_elements()));
    for (const float x : table->inputs) ASSERT_TRUE(std::isfinite(x));
    for (const int64_t target : table->class_targets) ASSERT_TRUE(target >= 0 && target < table->schema.classes);
    const TableDataset dataset(*std::move(table));  // its checks hold
  }
  // Neither everything nor nothing gets through, else this test sees little.
  EXPECT_GT(accepted, kMutants / 50);
  EXPECT_LT(accepted, kMutants * 49 / 50);
}

TEST(Fuzz, IdxGivesWhatItsHeaderSaysOrAnError) {
  const std::string images = BigEndian({2051, 3, 2, 2}) + "abcdefghijkl", labels = BigEndian({2049, 5}) + std::string("\0\1\2\3\4", 5);
  Rng rng(12, RngPurpose::kSynthetic);
  int accepted = 0;
  for (int i = 0; i < kMutants; ++i) {
    const std::string image_bytes = Mutated(images, rng), label_bytes = Mutated(labels, rng);
    if (const auto parsed = ParseIdxImages("f", AsBytes(image_bytes)); parsed.ok()) {
      ++accepted;
      ASSERT_EQ(parsed->pixels.size(), static_cast<size_t>(parsed->count * parsed->height * parsed->width));
      ASSERT_EQ(parsed->pixels.size() + 16, image_bytes.size());
    }
    if (const auto parsed = ParseIdxLabels("f", AsBytes(label_bytes), 10); parsed.ok()) {
      ++accepted;
      ASSERT_EQ(parsed->size() + 8, label_bytes.size());
      for (const uint8_t label : *parsed) ASSERT_LT(label, 10);
    }
  }
  EXPECT_GT(accepted, 100);
}

TEST(Fuzz, GzipGivesBytesOrAnError) {
  const std::string packed = Gzip("1,2,3\n4,5,6\n7,8,9\n1,2,3\n4,5,6\n") + Gzip(std::string(2000, 'x'));
  Rng rng(13, RngPurpose::kSynthetic);
  constexpr int64_t kBytesMax = 1 << 16;
  for (int i = 0; i < kMutants / 10; ++i) {
    const auto unpacked = GunzipBytes("f", AsBytes(Mutated(packed, rng)), kBytesMax);
    if (unpacked.ok()) {
      ASSERT_LE(unpacked->size(), static_cast<size_t>(kBytesMax));
    }
  }
}

}  // namespace
}  // namespace dtrain
