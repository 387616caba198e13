// Goal: no text, however broken, crashes or hangs the reader, and what is accepted can be printed and read back.
// Method: 2,000 seeded mutations of a valid text (bytes flipped, cut, doubled, lines swapped, words of the trade put in).
#include <gtest/gtest.h>

#include <random>

#include "base/text.h"
#include "trainer/config/config.h"

namespace dtrain {
namespace {

constexpr const char* kValid = R"(run: {seed: 7, reproducible: false}
model:
  type: mlp
  hidden: [64, 32]   # two layers
data:
  dataset: digits
  transforms:
    - {type: normalize, mean: 0.3, std: [0.3]}
  batch: {global: 64, accumulation: null}
optim: {type: sgd, lr: 5e-2, momentum: 0.9, schedule: {type: step, size: 2ep, gamma: 0.5}}
train: {duration: 10ep, early_stop: {metric: "valid_accuracy", patience: 3}}
strategy: {bucket: 4MB, deadline: 5s}
checkpoint: {every: [1ep, 10min]}
)";

constexpr const char* kWords[] = {
    "&a ",  "*a",   "<<: ", "!!float ",  "---\n", "[",     "]",    "{", "}",   ": ",  "- ",      "? ",   "'",        "\"",
    "\t",   "\n",   "#",    "%YAML 2\n", "null",  "1e400", "nan",  "-", "|\n", ">\n", "\\u0000", "\xFF", "\xC3\xA9", "...",
    "type", "true", "0x7f", "optim",     "10ep",  "mine",  ".inf", "~", ",",   "@",   "`",       "\r",   "\0x",      "9223372036854775808"};

std::string Mutated(std::mt19937_64& random) {
  std::string text = kValid;
  const auto below = [&](size_t end) { return static_cast<size_t>(random() % std::max<size_t>(1, end)); };
  for (size_t changes = 1 + below(6); changes > 0; --changes) {
    const size_t at = below(text.size());
    switch (below(6)) {
      case 0:
        if (!text.empty()) text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, below(20));
        break;
      case 2:
        text.insert(at, text.substr(below(text.size()), below(40)));
        break;
      case 3:
        text.insert(at, kWords[below(std::size(kWords))]);
        break;
      case 4: {
        std::vector<std::string> lines = Split(text, '\n');
        std::swap(lines[below(lines.size())], lines[below(lines.size())]);
        text = Join(lines, "\n");
        break;
      }
      case 5:
        text.resize(at);
        break;
    }
  }
  return text;
}

TEST(ConfigFuzz, NoMutationCrashesAndWhatIsAcceptedReadsBack) {
  std::mt19937_64 random(20);
  int accepted = 0, refused = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::string text = Mutated(random);
    const auto config = ParseConfig(text, "x.yaml", {});
    if (!config.ok()) {
      EXPECT_EQ(config.status().code(), StatusCode::kInvalidArgument);
      ++refused;
      continue;
    }
    ++accepted;
    const auto again = ParseConfig(ToYaml(*config, false), "x.yaml", {});
    ASSERT_TRUE(again.ok()) << text << "\n---\n" << ToYaml(*config, false) << "\n---\n" << again.status().message();
    ASSERT_EQ(again->values, config->values) << text;
  }
  // Both ways were really taken.
  EXPECT_GT(accepted, 20);
  EXPECT_GT(refused, 500);
}

TEST(ConfigFuzz, NoOverrideCrashes) {
  std::mt19937_64 random(21);
  int accepted = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto word = [&] { return std::string(kWords[random() % std::size(kWords)]); };
    const char* keys[] = {"optim.lr", "optim", "model.hidden", "data.transforms", "train.early_stop", "checkpoint.every",
                          "run.name", "x",     "model.type.a"};
    const std::vector<std::string> overrides = {Cat(keys[random() % std::size(keys)], "=", word(), random() % 2 ? word() : "")};
    accepted += ParseConfig(kValid, "x.yaml", overrides).ok();
  }
  EXPECT_GT(accepted, 20);
}

}  // namespace
}  // namespace dtrain
