// Goal: the tree has what the text says, at the places where it says it, and what YAML allows but a configuration does not
// take is refused at its place. Method: small texts with known lines and columns.
#include "trainer/config/yaml_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dtrain {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// The only problem of `text`.
YamlProblem ProblemOf(std::string_view text) {
  const YamlResult result = ReadYaml(text);
  EXPECT_THAT(result.problems, SizeIs(1)) << text;
  return result.problems.empty() ? YamlProblem{} : result.problems[0];
}

TEST(ReadYaml, EveryKeyAndValueKnowsItsPlace) {
  const YamlResult result = ReadYaml("# head\noptim:\n  lr: 0.1\n  betas: [0.9, '0.99']\nrun: {name: \"a b\", seed: 7}\nempty:\n");
  ASSERT_THAT(result.problems, IsEmpty());
  const YamlEntry* optim = result.root.Find("optim");
  ASSERT_NE(optim, nullptr);
  EXPECT_EQ(optim->at, (YamlMark{2, 1}));
  const YamlEntry* lr = optim->value.Find("lr");
  ASSERT_NE(lr, nullptr);
  EXPECT_EQ(lr->at, (YamlMark{3, 3}));
  EXPECT_EQ(lr->value.at, (YamlMark{3, 7}));
  EXPECT_EQ(lr->value.text, "0.1");
  EXPECT_FALSE(lr->value.quoted);
  const YamlNode& betas = optim->value.Find("betas")->value;
  ASSERT_THAT(betas.items, SizeIs(2));
  EXPECT_EQ(betas.items[1].at, (YamlMark{4, 16}));
  EXPECT_TRUE(betas.items[1].quoted);
  EXPECT_EQ(result.root.Find("run")->value.Find("seed")->value.at, (YamlMark{5, 26}));
  EXPECT_EQ(result.root.Find("run")->value.Find("name")->value.text, "a b");
  EXPECT_EQ(result.root.Find("empty")->value.kind, YamlNode::Kind::kNull);
  EXPECT_EQ(result.root.Find("empty")->value.at, (YamlMark{6, 1}));
}

TEST(ReadYaml, ColumnsCountCharactersNotBytes) {
  const YamlResult result = ReadYaml("\xEF\xBB\xBFname: {\xE5\xA4\xA9: \xC3\xA9, b: 1}\n");  // a byte order mark, then 天 and é
  ASSERT_THAT(result.problems, IsEmpty());
  EXPECT_EQ(result.root.Find("name")->at, (YamlMark{1, 1}));
  EXPECT_EQ(result.root.Find("name")->value.Find("b")->at, (YamlMark{1, 14}));
}

TEST(ReadYaml, NothingAndCommentsAloneAreNull) {
  for (const char* text : {"", "\n\n", "# a comment\n", "---\n", "null\n", "~"}) {
    const YamlResult result = ReadYaml(text);
    EXPECT_THAT(result.problems, IsEmpty()) << text;
    EXPECT_EQ(result.root.kind, YamlNode::Kind::kNull) << text;
  }
}

TEST(ReadYaml, AKeyFoundTwiceIsRefusedAtItsSecondPlace) {
  const YamlProblem problem = ProblemOf("optim:\n  schedule:\n    type: step\n    size: 1ep\n    type: cosine\n");
  EXPECT_EQ(problem.at, (YamlMark{5, 5}));
  EXPECT_EQ(problem.text, "optim.schedule.type: found twice, expected once; first in line 3");
}

TEST(ReadYaml, WhatSurprisesIsRefusedAtItsPlace) {
  const struct {
    const char* text;
    YamlMark at;
    const char* message;
  } kCases[] = {
      {"a: &x 1\n", {1, 4}, "an anchor (&x)"},
      {"a: !!int 1\n", {1, 4}, "a tag"},
      {"<<: {a: 1}\n", {1, 1}, "a merge key"},
      {"[1, 2]: 3\n", {1, 1}, "a key must be a word"},
      {"a: 1\n---\nb: 2\n", {3, 1}, "a second document"},
      {"a: \"\\x07\"\n", {1, 4}, "a control character"},
      {"a: 1\nb: [1, 2\n", {3, 1}, "not YAML"},
      {"a: \"unfinished\n", {1, 4}, "never closed"},
      {"a: 'it''s\nb: 2\n", {1, 4}, "never closed"},
      {"a:\n\t- 1\n", {2, 2}, "not YAML"},
      {"a: 1\nb: \xFF\n", {2, 4}, "no UTF-8 text: 255"},
      {"a: \xED\xA0\x80\n", {1, 4}, "no UTF-8 text: 237"},
      {"a: \xC0\x80\n", {1, 4}, "no UTF-8 text: 192"},
  };
  for (const auto& [text, at, message] : kCases) {
    const YamlProblem problem = ProblemOf(text);
    EXPECT_EQ(problem.at, at) << text << problem.at.line << ":" << problem.at.column;
    EXPECT_THAT(problem.text, HasSubstr(message)) << text;
  }
}

TEST(ReadYaml, AnAliasIsRefused) {
  const YamlResult result = ReadYaml("a: &x 1\nb: *x\n");
  ASSERT_THAT(result.problems, SizeIs(2));
  EXPECT_EQ(result.problems[1].at, (YamlMark{2, 4}));
  EXPECT_THAT(result.problems[1].text, HasSubstr("an alias"));
}

TEST(ReadYaml, DepthSizeAndNumberOfKeysAreLimited) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_THAT(ReadYaml(nested(kYamlDepthMax)).problems, IsEmpty());
  EXPECT_THAT(ProblemOf(nested(kYamlDepthMax + 1)).text, HasSubstr("nested deeper than 32 levels"));
  EXPECT_FALSE(ReadYaml(nested(100'000)).problems.empty());
  EXPECT_FALSE(ReadYaml(std::string(100'000, '[')).problems.empty());
  EXPECT_FALSE(ReadYaml(std::string(100'000, '{')).problems.empty());

  EXPECT_THAT(ReadYaml("a: " + std::string(kYamlBytesMax - 3, 'x')).problems, IsEmpty());
  EXPECT_THAT(ProblemOf("a: " + std::string(kYamlBytesMax - 2, 'x')).text, HasSubstr("expected at most 1048576"));

  std::string keys;
  for (size_t i = 0; i <= kYamlKeysMax; ++i) keys += "k" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(ProblemOf(keys).text, HasSubstr("more than 1000 keys"));
}

}  // namespace
}  // namespace dtrain
