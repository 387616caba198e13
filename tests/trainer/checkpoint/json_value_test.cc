// Goal: JSON from anywhere becomes exactly the value it says, or an error. Method: round trips with Value::ToJson, the
// borders of every kind of number, and a list of texts that are wrong, each in one way (RFC 8259).
#include "trainer/checkpoint/json_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "base/rng.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

TEST(ParseJson, WhatToJsonWroteReadsBackEqual) {
  const Value value(Value::Map{{"a", Value(Value::List{1, -2, 0.1, 1e300, -0.0, true, Value(), "t"})},
                               {"empty list", Value(Value::List())},
                               {"empty map", Value(Value::Map())},
                               {"nested", Value(Value::Map{{"x", Value(Value::List{Value(Value::List{3})})}})},
                               {"text \"\\\n\x01 \xc3\xa9", Value("\xf0\x9f\x98\x80")},
                               {"limits", Value(Value::List{INT64_MAX, INT64_MIN})}});
  const auto parsed = ParseJson(value.ToJson());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, value) << parsed->ToJson();
}

TEST(ParseJson, RandomDoublesReadBackEqual) {
  Rng rng(3, RngPurpose::kSynthetic);
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t bits = rng.Next64();
    double number;
    static_assert(sizeof number == sizeof bits);
    std::memcpy(&number, &bits, sizeof number);
    if (!std::isfinite(number)) continue;
    const auto parsed = ParseJson(Value(number).ToJson());
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ASSERT_NE(parsed->if_double(), nullptr) << Value(number).ToJson();
    ASSERT_EQ(*parsed->if_double(), number);
  }
}

TEST(ParseJson, NumberIsADoubleExactlyIfItHasAPointOrAnExponent) {
  EXPECT_NE(ParseJson("1")->if_int(), nullptr);
  EXPECT_NE(ParseJson("1.0")->if_double(), nullptr);
  EXPECT_NE(ParseJson("1e0")->if_double(), nullptr);
}

TEST(ParseJson, TextThatIsNotJsonIsRefusedWithItsPosition) {
  for (const std::string text :
       {"",        " ",        "{",        "[1,]",  "{\"a\":}", "{\"a\" 1}", "01",    "+1",  "1.",      "nul", "\"\n\"",
        "\"\\x\"", "\"\xff\"", "\"\xc3\"", "[1] 2", "NaN",      "1e999",     "{a:1}", "'a'", "// c\n1", "[1",  "\"abc"}) {
    const auto parsed = ParseJson(text);
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(Message(parsed.status()), HasSubstr("at byte ")) << text;
  }
}

TEST(ParseJson, KeyThatStandsTwiceIsRefused) {
  const auto parsed = ParseJson(R"({"a": {"b": 1, "b": 2}})");
  EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(parsed.status()), HasSubstr("the key \"b\" stands twice"));
}

TEST(ParseJson, IntegerBeyond64BitsWithSignIsRefused) {
  for (const std::string text : {"9223372036854775808", "18446744073709551616", "-9223372036854775809"}) {
    EXPECT_THAT(Message(ParseJson(text).status()), HasSubstr("does not fit 64 bits")) << text;
  }
}

TEST(ParseJson, BytesDepthAndNumberOfValuesAreBounded) {
  EXPECT_TRUE(ParseJson("[[1]]", {.bytes_max = 5, .depth_max = 2, .values_max = 3}).ok());
  EXPECT_THAT(Message(ParseJson("[[1]]", {.bytes_max = 4}).status()), HasSubstr("the text has 5 bytes"));
  EXPECT_THAT(Message(ParseJson("[[1]]", {.depth_max = 1}).status()), HasSubstr("more than 1 deep"));
  EXPECT_THAT(Message(ParseJson("[[1]]", {.values_max = 2}).status()), HasSubstr("more than 2 values"));
  EXPECT_EQ(ParseJson(std::string(10'000'000, '[')).status().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace dtrain
