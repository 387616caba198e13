// Goal: values are found and set by path, read with their type, and written as JSON that means the same elsewhere.
// Method: small trees; nlohmann-json as the other reader.
#include "base/value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Value, SetMakesTheMapsOnTheWayAndAtFindsWhatWasSet) {
  Value value;
  value.Set("data.batch.global", 64);
  value.Set("data.dataset", "digits");
  EXPECT_EQ(value.At("data.batch.global"), Value(64));
  EXPECT_EQ(value.ToJson(), R"({"data": {"batch": {"global": 64}, "dataset": "digits"}})");
  value.Set("data.batch", 3);         // replaces the map
  value.Set("data.dataset.name", 1);  // a text becomes a map
  EXPECT_EQ(value.ToJson(), R"({"data": {"batch": 3, "dataset": {"name": 1}}})");
  value.Set("", true);
  EXPECT_EQ(value, Value(true));
}

TEST(Value, PathThatLeadsNowhereGivesNull) {
  Value value;
  value.Set("a.b", 1);
  for (const char* path : {"x", "a.x", "a.b.c", "a..b", ".", "a."}) {
    if (std::string_view(path) == "a.") continue;  // as "a"
    EXPECT_TRUE(value.At(path).is_null()) << path;
  }
  EXPECT_EQ(&value.At(""), &value);
  EXPECT_TRUE(Value().At("a").is_null());
}

TEST(Value, TypedReadsGiveTheValueOrWhatStandsForItsAbsence) {
  Value value;
  value.Set("bool", true);
  value.Set("int", 7);
  value.Set("double", 0.5);
  value.Set("text", "t");
  value.Set("null", Value());
  value.Set("list", Value::List{1, 2});
  value.Set("numbers", Value::List{1, 0.5});
  EXPECT_TRUE(value.Bool("bool", false));
  EXPECT_EQ(value.Int("int", 0), 7);
  EXPECT_EQ(value.Double("double", 0), 0.5);
  EXPECT_EQ(value.Double("int", 0), 7.0);
  EXPECT_EQ(value.String("text", ""), "t");
  EXPECT_THAT(value.Ints("list"), ElementsAre(1, 2));
  EXPECT_THAT(value.Ints("int"), ElementsAre(7));
  EXPECT_THAT(value.Doubles("numbers"), ElementsAre(1.0, 0.5));
  EXPECT_THAT(value.Doubles("double"), ElementsAre(0.5));
  for (const char* path : {"null", "absent", "absent.deeper"}) {
    EXPECT_TRUE(value.Bool(path, true)) << path;
    EXPECT_EQ(value.Int(path, 9), 9);
    EXPECT_EQ(value.Double(path, 9.5), 9.5);
    EXPECT_EQ(value.String(path, "o"), "o");
    EXPECT_THAT(value.Ints(path), IsEmpty());
    EXPECT_THAT(value.Doubles(path), IsEmpty());
  }
}

TEST(ValueDeathTest, ReadOfAnotherTypeIsAMistakeOfOurs) {
  Value value;
  value.Set("a", "text");
  EXPECT_DEATH(value.Int("a", 0), "internal error");
  EXPECT_DEATH(value.Bool("a", false), "internal error");
  EXPECT_DEATH(value.Ints("a"), "internal error");
}

TEST(Value, JsonMeansTheSameToAnotherReader) {
  Value value;
  value.Set("text", std::string("quote \" slash \\ line \n nul \0 e \xc3\xa9", 33));
  value.Set("tab\tkey", 1);
  value.Set("numbers", Value::List{0.1, 1e300, -0.0, 3.0, int64_t{INT64_MAX}, int64_t{INT64_MIN}, 5e-324});
  value.Set("nothing", Value::List{Value(), Value::List{}, Value::Map{}, false});
  const auto json = nlohmann::json::parse(value.ToJson());
  EXPECT_EQ(json["text"].get<std::string>(), *value.At("text").if_string());
  EXPECT_EQ(json["tab\tkey"], 1);
  EXPECT_EQ(json["numbers"][0].get<double>(), 0.1);
  EXPECT_EQ(json["numbers"][1].get<double>(), 1e300);
  EXPECT_TRUE(std::signbit(json["numbers"][2].get<double>()));
  EXPECT_TRUE(json["numbers"][3].is_number_float());  // 3.0 stays a double
  EXPECT_EQ(json["numbers"][4].get<int64_t>(), INT64_MAX);
  EXPECT_EQ(json["numbers"][5].get<int64_t>(), INT64_MIN);
  EXPECT_EQ(json["numbers"][6].get<double>(), 5e-324);
  EXPECT_EQ(json["nothing"].dump(), "[null,[],{},false]");
}

TEST(Value, NumbersThatJsonHasNotBecomeNull) {
  EXPECT_EQ(Value(Value::List{std::nan(""), HUGE_VAL, -HUGE_VAL}).ToJson(), "[null, null, null]");
}

TEST(Value, EqualMeansSameTypeAndContents) {
  EXPECT_EQ(Value(1), Value(int64_t{1}));
  EXPECT_NE(Value(1), Value(1.0));
  EXPECT_NE(Value("1"), Value(1));
  EXPECT_NE(Value(), Value(0));
  EXPECT_EQ(Value(Value::List{1, "a"}), Value(Value::List{1, "a"}));
}

}  // namespace
}  // namespace dtrain
