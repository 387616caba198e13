// Goal: what is printed of the table is complete and agrees with what the parser takes; the page in docs/ is the printed one.
// Method: every key looked for in each form; the schema read back and held against the table; the page compared.
#include "trainer/config/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/text.h"
#include "trainer/config/keys.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Keys, EveryRowIsComplete) {
  std::set<std::string> paths;
  for (const Key& key : Keys()) {
    EXPECT_TRUE(paths.insert(key.path).second) << key.path << " twice";
    EXPECT_FALSE(key.help.empty()) << key.path;
    EXPECT_NE(key.help.back(), '.') << key.path;
    EXPECT_EQ(key.help.find('\n'), std::string::npos) << key.path;
    // What decides whether a key has a meaning is a key that stands before it, as its section does.
    EXPECT_TRUE(key.section().empty() || paths.contains(std::string(key.section()))) << key.path;
    EXPECT_TRUE(key.only_for.empty() || paths.contains(key.only_for.substr(0, key.only_for.find('=')))) << key.path;
    if (key.type == KeyType::kSection) continue;
    EXPECT_NE(key.default_value.empty(), key.derived.empty()) << key.path << " needs a default or where it comes from";
    EXPECT_FALSE(Expected(key).empty()) << key.path;
    for (const std::string& word : Split(key.unavailable, '|')) {
      const auto words = Split(key.words, '|');
      const bool is_bool = key.type == KeyType::kBool && (word == "true" || word == "false");
      EXPECT_TRUE(word.empty() || word == "*" || is_bool || std::count(words.begin(), words.end(), word) == 1) << key.path << " " << word;
    }
  }
}

TEST(RenderKeys, NamesEveryKeyOfASection) {
  const std::string all = RenderKeys("");
  for (const Key& key : Keys()) EXPECT_THAT(all, HasSubstr(key.path));
  const std::string batch = RenderKeys("data.batch");
  EXPECT_THAT(batch, HasSubstr("data.batch.per_rank"));
  EXPECT_THAT(batch, Not(HasSubstr("data.sampler")));
  EXPECT_EQ(RenderKeys("nothing"), "");
  EXPECT_THAT(RenderKeys("optim.lr"), HasSubstr("Learning rate"));
}

TEST(RenderSchema, HoldsEveryKeyAtItsPlace) {
  const auto schema = nlohmann::json::parse(RenderSchema());
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  size_t found = 0;
  for (const Key& key : Keys()) {
    nlohmann::json at = schema;
    for (const std::string& name : Split(key.path, '.')) {
      // A section is a choice between a map and null.
      if (at.contains("anyOf")) at = at["anyOf"][0];
      ASSERT_TRUE(at["properties"].contains(name)) << key.path;
      at = nlohmann::json(at["properties"][name]);
    }
    EXPECT_THAT(at["description"].get<std::string>(), HasSubstr(key.help));
    ++found;
  }
  EXPECT_EQ(found, Keys().size());
  EXPECT_EQ(schema["additionalProperties"], false);
}

TEST(RenderReference, IsThePageInDocs) {
  const std::string path = std::string(DTRAIN_SOURCE_DIR) + "/docs/configuration.md";
  std::ifstream file(path);
  std::stringstream page;
  page << file.rdbuf();
  EXPECT_TRUE(page.str() == RenderReference())
      << path << " is older than the table of keys; run: dtrain config keys --reference > docs/configuration.md";
}

TEST(RenderConfig, ShowsEachKeyWithItsOrigin) {
  const auto config = ParseConfig("model: {type: convnet}\ndata: {dataset: mnist}\n", "a.yaml", std::vector<std::string>{"optim.lr=0.1"});
  ASSERT_TRUE(config.ok()) << config.status().message();
  const std::string text = RenderConfig(*config, true);
  const auto line = [&](const std::string& begin) {
    const size_t at = text.find("\n" + begin);
    return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
  };
  EXPECT_THAT(line("optim.lr = 0.1 "), testing::EndsWith("  # command line"));
  EXPECT_THAT(line("model.type = convnet "), testing::EndsWith("  # a.yaml:1:15"));
  EXPECT_THAT(line("strategy.bucket = 4MB "), testing::EndsWith("  # default"));
  EXPECT_THAT(line("optim.weight_decay = 0 "), testing::EndsWith("  # from optim.type"));
  EXPECT_THAT(RenderConfig(*config, false), HasSubstr("\noptim.lr = 0.1\n"));
}

}  // namespace
}  // namespace dtrain
