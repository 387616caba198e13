// Goal: numbers read as people write them, also at the borders where a unit or a digit changes; a mistyped word finds the
// one that was meant. Method: tables with the borders written out.
#include "base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace dtrain {
namespace {

using ::testing::ElementsAre;

TEST(Cat, PutsPartsOfEveryKindTogether) {
  EXPECT_EQ(Cat("a", std::string("b"), std::string_view("c"), 'd', 1, uint8_t{2}, int64_t{-3}, true, 0.1, 1e300, 2.0f),
            "abcd12-3true0.11e+3002");
  EXPECT_EQ(Cat(std::numeric_limits<int64_t>::min(), " ", std::numeric_limits<uint64_t>::max()),
            "-9223372036854775808 18446744073709551615");
  EXPECT_EQ(Cat(), "");
}

TEST(JoinAndSplit, AreEachOthersInverse) {
  for (const std::string text : {"", ",", "a", "a,b", ",a,,b,"}) EXPECT_EQ(Join(Split(text, ','), ","), text);
  EXPECT_THAT(Split("a,,b", ','), ElementsAre("a", "", "b"));
  EXPECT_THAT(Split("", ','), ElementsAre(""));
}

TEST(Trim, TakesWhiteSpaceAtBothEndsOnly) {
  EXPECT_EQ(Trim(" \t a b\r\n"), "a b");
  EXPECT_EQ(Trim(" \n"), "");
  EXPECT_EQ(Trim(""), "");
}

TEST(ParseInt, TakesTheWholeTextOrNothing) {
  EXPECT_EQ(ParseInt("-12"), -12);
  EXPECT_EQ(ParseInt("9223372036854775807"), INT64_MAX);
  for (const char* text : {"", " 1", "1 ", "+1", "1.0", "0x10", "9223372036854775808", "one", "-"})
    EXPECT_EQ(ParseInt(text), std::nullopt) << text;
}

TEST(ParseDouble, TakesTheWholeTextOrNothing) {
  EXPECT_EQ(ParseDouble("-1.5e3"), -1500.0);
  EXPECT_EQ(ParseDouble("0.1"), 0.1);
  for (const char* text : {"", " 1", "1,5", "1e999", "1.5x", "e5"}) EXPECT_EQ(ParseDouble(text), std::nullopt) << text;
}

TEST(WithCommas, GroupsByThreeFromTheRight) {
  EXPECT_EQ(WithCommas(0), "0");
  EXPECT_EQ(WithCommas(999), "999");
  EXPECT_EQ(WithCommas(1000), "1,000");
  EXPECT_EQ(WithCommas(1234567), "1,234,567");
  EXPECT_EQ(WithCommas(-123), "-123");
  EXPECT_EQ(WithCommas(-123456), "-123,456");
  EXPECT_EQ(WithCommas(INT64_MIN), "-9,223,372,036,854,775,808");
}

TEST(HumanBytes, ChangesUnitAndDigitsWhereTheTextWouldGrow) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1000), "1.0 kB");
  EXPECT_EQ(HumanBytes(2'700'000), "2.7 MB");
  EXPECT_EQ(HumanBytes(99'940), "99.9 kB");
  EXPECT_EQ(HumanBytes(99'960), "100 kB");
  EXPECT_EQ(HumanBytes(999'499), "999 kB");
  EXPECT_EQ(HumanBytes(999'500), "1.0 MB");
  EXPECT_EQ(HumanBytes(4.7e9), "4.7 GB");
  EXPECT_EQ(HumanBytes(5e15), "5000 TB");
}

TEST(HumanSeconds, ChangesUnitAndDigitsWhereTheTextWouldGrow) {
  EXPECT_EQ(HumanSeconds(0), "0.0 ms");
  EXPECT_EQ(HumanSeconds(0.0049), "4.9 ms");
  EXPECT_EQ(HumanSeconds(0.00999), "10 ms");
  EXPECT_EQ(HumanSeconds(0.85), "850 ms");
  EXPECT_EQ(HumanSeconds(0.9994), "999 ms");
  EXPECT_EQ(HumanSeconds(0.9996), "1.0 s");
  EXPECT_EQ(HumanSeconds(12.34), "12.3 s");
  EXPECT_EQ(HumanSeconds(59.94), "59.9 s");
  EXPECT_EQ(HumanSeconds(59.96), "1 min 0 s");
  EXPECT_EQ(HumanSeconds(245), "4 min 5 s");
  EXPECT_EQ(HumanSeconds(3599.4), "59 min 59 s");
  EXPECT_EQ(HumanSeconds(3599.6), "1 h 0 min");
  EXPECT_EQ(HumanSeconds(7380), "2 h 3 min");
  EXPECT_EQ(HumanSeconds(std::numeric_limits<double>::infinity()), "unknown");
  EXPECT_EQ(HumanSeconds(std::numeric_limits<double>::quiet_NaN()), "unknown");
}

TEST(Fixed, HasTheDigitsAskedFor) {
  EXPECT_EQ(Fixed(3.14159, 3), "3.142");
  EXPECT_EQ(Fixed(-0.5, 0), "-0");
  EXPECT_EQ(Fixed(1e300, 2).size(), 304u);  // whole, not cut
}

TEST(Nearest, FindsWhatWasMeantByOneSlip) {
  const std::vector<std::string> words = {"momentum", "model", "lr", "schedule", "batch"};
  EXPECT_EQ(Nearest("momentun", words), "momentum");   // replaced
  EXPECT_EQ(Nearest("momenum", words), "momentum");    // left out
  EXPECT_EQ(Nearest("momenntum", words), "momentum");  // put in
  EXPECT_EQ(Nearest("mdoel", words), "model");         // swapped
  EXPECT_EQ(Nearest("rl", words), "lr");               // swapped, of two letters
  EXPECT_EQ(Nearest("batch", words), "batch");
}

TEST(Nearest, GivesNothingWhereNothingIsNear) {
  const std::vector<std::string> words = {"momentum", "lr"};
  EXPECT_EQ(Nearest("epochs", words), std::nullopt);
  EXPECT_EQ(Nearest("xyz", words), std::nullopt);
  EXPECT_EQ(Nearest("", std::vector<std::string>{}), std::nullopt);
}

TEST(Nearest, OfSeveralTakesTheNearestAndOfEqualsTheFirst) {
  EXPECT_EQ(Nearest("abcdef", std::vector<std::string>{"abcdxy", "abcdex", "abcdey"}), "abcdex");
}

TEST(Nearest, WordOfAMegabyteIsAnsweredAtOnce) {
  EXPECT_EQ(Nearest(std::string(1'000'000, 'a'), std::vector<std::string>(100, std::string(100, 'a'))), std::nullopt);
}

}  // namespace
}  // namespace dtrain
