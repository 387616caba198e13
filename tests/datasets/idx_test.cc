// Goal: an idx file is read exactly, and no damaged one is read at all. Method: bytes put together by hand from the format's
// description, then every length, every byte of the header changed, and headers that promise absurd sizes.
#include "datasets/idx.h"

#include <gmock/gmock.h>

#include "datasets/images.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ImageBytes() { return BigEndian({2051, 2, 2, 3}) + std::string("\x00\x01\x02\x03\x04\x05\xfa\xfb\xfc\xfd\xfe\xff", 12); }
std::string LabelBytes() { return BigEndian({2049, 3}) + std::string("\x02\x00\x01", 3); }

TEST(Idx, HandMadeImagesAreRead) {
  const auto images = ParseIdxImages("i", AsBytes(ImageBytes()));
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_EQ(images->count, 2);
  EXPECT_EQ(images->height, 2);
  EXPECT_EQ(images->width, 3);
  EXPECT_THAT(images->pixels, ElementsAre(0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255));
}

TEST(Idx, HandMadeLabelsAreRead) {
  const auto labels = ParseIdxLabels("l", AsBytes(LabelBytes()), 3);
  ASSERT_TRUE(labels.ok()) << labels.status();
  EXPECT_THAT(*labels, ElementsAre(2, 0, 1));
}

TEST(Idx, EveryShorterLengthIsRefused) {
  const std::string images = ImageBytes(), labels = LabelBytes();
  for (size_t length = 0; length < images.size(); ++length) {
    const auto parsed = ParseIdxImages("cut.idx", AsBytes(std::string_view(images).substr(0, length)));
    EXPECT_EQ(parsed.status().code(), StatusCode::kDataLoss) << length;
    EXPECT_THAT(Message(parsed.status()), HasSubstr("cut.idx"));
  }
  for (size_t length = 0; length < labels.size(); ++length) {
    EXPECT_EQ(ParseIdxLabels("l", AsBytes(std::string_view(labels).substr(0, length)), 3).status().code(), StatusCode::kDataLoss) << length;
  }
}

TEST(Idx, BytesLeftOverAreRefused) {
  EXPECT_THAT(Message(ParseIdxImages("i", AsBytes(ImageBytes() + "x")).status()), HasSubstr("1 bytes too many"));
  EXPECT_EQ(ParseIdxLabels("l", AsBytes(LabelBytes() + "xy"), 3).status().code(), StatusCode::kDataLoss);
}

TEST(Idx, EveryFlippedBitOfTheHeaderIsRefused) {
  for (size_t bit = 0; bit < 16 * 8; ++bit) {
    std::string bytes = ImageBytes();
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    const auto parsed = ParseIdxImages("i", AsBytes(bytes));
    EXPECT_EQ(parsed.status().code(), bit < 32 ? StatusCode::kInvalidArgument : StatusCode::kDataLoss) << bit;
  }
}

TEST(Idx, ExchangedFilesAreNamedAsSuch) {
  const auto images = ParseIdxImages("i", AsBytes(LabelBytes() + std::string(8, '\0')));
  EXPECT_THAT(Message(images.status()), HasSubstr("magic number 2049, expected 2051"));
  EXPECT_THAT(Message(images.status()), HasSubstr("exchanged"));
  EXPECT_THAT(Message(ParseIdxLabels("l", AsBytes(ImageBytes()), 10).status()), HasSubstr("exchanged"));
}

// Four billion images of four billion by four billion: the product does not fit 64 bits.
TEST(Idx, AbsurdSizesAreRefusedWithoutMemory) {
  const auto parsed = ParseIdxImages("i", AsBytes(BigEndian({2051, UINT32_MAX, UINT32_MAX, UINT32_MAX}) + "abc"));
  EXPECT_THAT(Message(parsed.status()), HasSubstr("cut off"));
  // 2^22 * 2^21 * 2^21 is 2^64, which is 0 where it overflows.
  EXPECT_FALSE(ParseIdxImages("i", AsBytes(BigEndian({2051, 1 << 22, 1 << 21, 1 << 21}))).ok());
  EXPECT_FALSE(ParseIdxImages("i", AsBytes(BigEndian({2051, 0, 28, 28}))).ok());
  EXPECT_FALSE(ParseIdxImages("i", AsBytes(BigEndian({2051, 5, 0, 28}))).ok());
}

TEST(Idx, LabelOutOfRangeIsNamedWithItsSample) {
  const auto labels = ParseIdxLabels("l", AsBytes(LabelBytes()), 2);
  EXPECT_EQ(labels.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(labels.status()), HasSubstr("label 2 of sample 0, expected 0 to 1"));
}

TEST(IdxPair, PackedAndPlainFilesAreOneSet) {
  const TempFolder folder;
  const std::string labels = BigEndian({2049, 2}) + std::string("\x01\x00", 2);
  const IdxPair plain = {folder.Write("i", ImageBytes()), folder.Write("l", labels)};
  const IdxPair packed = {folder.Write("i.gz", Gzip(ImageBytes())), folder.Write("l.gz", Gzip(labels))};
  const auto a = OpenIdxImages(plain, {.name = "tiny", .classes = 2}), b = OpenIdxImages(packed, {.name = "tiny", .classes = 2});
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ((*a)->fingerprint(), (*b)->fingerprint());
  EXPECT_THAT((*a)->schema().input_shape, ElementsAre(1, 2, 3));
  const Batch batch = Gathered(**b, {1, 0});
  EXPECT_THAT(ClassTargets(batch), ElementsAre(0, 1));
  EXPECT_THAT(Inputs(batch), ElementsAre(250 / 255.f, 251 / 255.f, 252 / 255.f, 253 / 255.f, 254 / 255.f, 1.f, 0.f, 1 / 255.f, 2 / 255.f,
                                         3 / 255.f, 4 / 255.f, 5 / 255.f));
}

TEST(IdxPair, CountsThatDifferAreRefused) {
  const TempFolder folder;
  const auto opened = OpenIdxImages({folder.Write("i", ImageBytes()), folder.Write("l", LabelBytes())}, {.name = "tiny", .classes = 3});
  EXPECT_THAT(Message(opened.status()), HasSubstr("3 labels, but"));
  EXPECT_THAT(Message(opened.status()), HasSubstr("has 2 images"));
}

TEST(IdxPair, OtherBytesThanPublishedAreRefused) {
  const TempFolder folder;
  const std::string labels = BigEndian({2049, 2}) + std::string("\x01\x00", 2);
  IdxPair files = {folder.Write("i", ImageBytes()), folder.Write("l", labels)};
  files.images_sha256 = std::string(64, '0');
  const auto opened = OpenIdxImages(files, {.name = "tiny", .classes = 2});
  EXPECT_EQ(opened.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(opened.status()), HasSubstr("sha256"));
}

}  // namespace
}  // namespace dtrain
