// Goal: what was encoded decodes equal, and no bytes make the decoder read past the end or believe a length. Method: one
// message of every kind of field, cut at every byte; its bytes compared with the documented layout.
#include "base/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/digest.h"

namespace dtrain {
namespace {

std::vector<std::byte> OneOfEach() {
  Encoder out;
  out.U8(0xfe);
  out.U16(0xfedc);
  out.U32(0xfedcba98);
  out.U64(0xfedcba9876543210);
  out.I64(-2);
  out.F64(-0.1);
  out.String("text");
  out.Bytes({});
  out.U8(7);
  return out.Take();
}

TEST(Codec, FieldsAreLittleEndianAndLengthPrefixed) {
  EXPECT_EQ(Hex(OneOfEach()),
            "fe"
            "dcfe"
            "98badcfe"
            "1032547698badcfe"
            "feffffffffffffff"
            "9a9999999999b9bf"
            "04000000"
            "74657874"
            "00000000"
            "07");
}

TEST(Codec, EveryKindOfFieldReadsBackEqual) {
  const auto bytes = OneOfEach();
  Decoder in(bytes);
  EXPECT_EQ(in.U8(), 0xfe);
  EXPECT_EQ(in.U16(), 0xfedc);
  EXPECT_EQ(in.U32(), 0xfedcba98);
  EXPECT_EQ(in.U64(), 0xfedcba9876543210);
  EXPECT_EQ(in.I64(), -2);
  EXPECT_EQ(in.F64(), -0.1);
  EXPECT_EQ(in.String(), "text");
  EXPECT_TRUE(in.Bytes().empty());
  EXPECT_TRUE(in.ok());
  EXPECT_FALSE(in.Done());
  EXPECT_EQ(in.U8(), 7);
  EXPECT_TRUE(in.Done());
}

TEST(Codec, MessageCutAtAnyByteIsNotOkAndLaterReadsGiveNothing) {
  const auto bytes = OneOfEach();
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    // A copy of exactly this size, so that the address sanitizer sees a read past the end.
    const std::vector<std::byte> part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(cut));
    Decoder in(part);
    in.U8(), in.U16(), in.U32(), in.U64(), in.I64(), in.F64(), in.String(), in.Bytes(), in.U8();
    EXPECT_FALSE(in.ok()) << cut;
    EXPECT_FALSE(in.Done()) << cut;
    EXPECT_EQ(in.U64(), 0u);
    EXPECT_EQ(in.F64(), 0.0);
    EXPECT_EQ(in.String(), "");
    EXPECT_TRUE(in.Bytes().empty());
  }
}

TEST(Codec, ReadAfterAFailureDoesNotTakeWhatWouldStillFit) {
  Encoder out;
  out.U32(1);
  const auto bytes = out.Take();
  Decoder in(bytes);
  EXPECT_EQ(in.U64(), 0u);
  EXPECT_EQ(in.U32(), 0u);  // 4 bytes are left, but the message is broken
  EXPECT_FALSE(in.ok());
}

TEST(Codec, LengthBeyondTheEndIsRefused) {
  for (const uint32_t length : {1u, 4u, 0x7fffffffu, 0xffffffffu}) {
    Encoder out;
    out.U32(length);
    const auto bytes = out.Take();
    Decoder in(bytes);
    EXPECT_TRUE(in.Bytes().empty());
    EXPECT_FALSE(in.ok());
  }
}

TEST(Codec, EveryDoubleKeepsItsBits) {
  for (const double number : {0.0, -0.0, 1e-320, HUGE_VAL, -HUGE_VAL, std::nan("7")}) {
    Encoder out;
    out.F64(number);
    const auto bytes = out.Take();
    Decoder in(bytes);
    const double back = in.F64();
    EXPECT_EQ(std::memcmp(&back, &number, sizeof number), 0);
  }
}

}  // namespace
}  // namespace dtrain
