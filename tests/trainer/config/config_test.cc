// Goal: a configuration holds every key with its value, tells who set it, and reads back equal from what it prints.
// Method: the block of docs as printed, texts and override words against known values, round trips.
#include "trainer/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "trainer/config/keys.h"

namespace dtrain {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kSmall = "model: {type: mlp}\ndata: {dataset: digits}\n";

// The example of all keys that the design prints; what is not built yet stands at its default there.
constexpr const char* kAllKeys = R"(
run:        {name: fashion-ring, dir: runs, seed: 7, reproducible: false}      # name defaults to the file's stem
model:      {type: mlp, hidden: [512, 512], dropout: 0.2}
data:       {dataset: fashion-mnist, root: data, valid: test, sampler: shuffled, remainder: pad,
             batch: {global: 64, per_rank: null, accumulation: null, micro_batches: 8}}
optim:      {type: sgd, lr: 0.05, momentum: 0.9, clip_norm: 1.0, schedule: {type: cosine, warmup: 1ep}, groups: [], ema: null}
train:      {duration: 10ep, precision: fp32, device: auto, threads: auto, nan_policy: stop, early_stop: {metric: valid_accuracy, mode: max, patience: 3}}
eval:       {every: 1ep}                                                       # or never
strategy:   {type: ring, backend: auto, elastic: false, min_ranks: 1, shard_optimizer: auto, overlap: true, bucket: 4MB,
             unused: error, buffers: average, deadline: 5s, stall: 10min}      # local | ring | ps | auto
            # ps adds: mode, servers, reduce, staleness, backups, replicas, compression, lease, listen
checkpoint: {every: [1ep, 10min], keep_last: 2, keep_best: {metric: valid_accuracy, mode: max, count: 2}}
log:        {console: auto, level: info, jsonl: true, tensorboard: true, trace: {steps: [20, 30]}}
)";

Config Parsed(std::string_view text, std::vector<std::string> overrides = {}, const std::string& source = "small.yaml") {
  auto config = ParseConfig(text, source, overrides);
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? *std::move(config) : Config{};
}

TEST(Config, TakesEveryKeyAsTheDesignPrintsIt) {
  const Config config = Parsed(kAllKeys, {}, "all.yaml");
  const Value& values = config.values;
  EXPECT_EQ(config.name, "fashion-ring");
  EXPECT_EQ(values.Int("run.seed", 0), 7);
  EXPECT_THAT(values.Ints("model.hidden"), ElementsAre(512, 512));
  EXPECT_EQ(values.Double("model.dropout", 0), 0.2);
  EXPECT_EQ(values.String("data.valid", ""), "test");
  EXPECT_EQ(values.Int("data.batch.global", 0), 64);
  EXPECT_TRUE(values.At("data.batch.per_rank").is_null());
  EXPECT_EQ(values.Double("optim.clip_norm", 0), 1.0);
  EXPECT_EQ(values.String("optim.schedule.warmup", ""), "1ep");
  EXPECT_EQ(values.String("train.duration", ""), "10ep");
  EXPECT_EQ(values.String("train.threads", ""), "auto");
  EXPECT_EQ(values.Int("train.early_stop.patience", 0), 3);
  EXPECT_EQ(values.Int("strategy.bucket", 0), 4 << 20);
  EXPECT_EQ(values.Double("strategy.deadline", 0), 5.0);
  EXPECT_EQ(values.Double("strategy.stall", 0), 600.0);
  ASSERT_NE(values.At("checkpoint.every").if_list(), nullptr);
  EXPECT_EQ(*values.At("checkpoint.every").if_list(), (Value::List{"1ep", "10min"}));
  EXPECT_THAT(values.Ints("log.trace.steps"), ElementsAre(20, 30));
  // min_ranks has no meaning without elastic; written at its default it is no mistake and is left out.
  EXPECT_TRUE(values.At("strategy.min_ranks").is_null());
}

TEST(Config, DefaultsFollowTheOptimizer) {
  const auto lr = [](const char* type) { return Parsed(kSmall, {Cat("optim.type=", type)}).values.Double("optim.lr", 0); };
  EXPECT_EQ(lr("sgd"), 0.05);
  EXPECT_EQ(lr("adagrad"), 0.01);
  EXPECT_EQ(lr("rmsprop"), 0.01);
  EXPECT_EQ(lr("adam"), 0.001);
  const Value adamw = Parsed(kSmall, {"optim.type=adamw"}).values;
  EXPECT_EQ(adamw.Double("optim.weight_decay", 0), 0.01);
  EXPECT_EQ(adamw.Double("optim.eps", 0), 1e-8);
  EXPECT_EQ(Parsed(kSmall, {"optim.type=adagrad"}).values.Double("optim.eps", 0), 1e-10);
  EXPECT_TRUE(adamw.At("optim.momentum").is_null());
}

TEST(Config, EveryKeyOfTheTableIsThereOrHasNoMeaning) {
  const Config config = Parsed(kSmall);
  const std::vector<std::string> paths = KeyPaths(config.values);
  for (const Key& key : Keys()) {
    const bool in_null_section =
        key.path.starts_with("train.early_stop.") || key.path.starts_with("checkpoint.keep_best.") || key.path.starts_with("log.trace.");
    const bool expected = (key.type != KeyType::kSection || key.nullable) && AppliesTo(key, config.values) && !in_null_section;
    EXPECT_EQ(std::find(paths.begin(), paths.end(), key.path) != paths.end(), expected) << key.path;
  }
  for (const std::string& path : paths) EXPECT_TRUE(config.origins.contains(path)) << path;
  EXPECT_EQ(config.origins.size(), paths.size());
}

TEST(Config, OriginTellsWhoSetWhat) {
  const Config config =
      Parsed("model: {type: mlp}\ndata:\n  dataset: digits\n  batch: {global: 32}\n", {"optim.type=adam", "train.duration=3ep"});
  EXPECT_EQ(config.origins.at("data.dataset"), (Origin{Origin::kFile, "small.yaml:3:12"}));
  EXPECT_EQ(config.origins.at("data.batch.global"), (Origin{Origin::kFile, "small.yaml:4:19"}));
  EXPECT_EQ(config.origins.at("optim.type"), (Origin{Origin::kCommandLine, "command line"}));
  EXPECT_EQ(config.origins.at("optim.lr"), (Origin{Origin::kDerived, "optim.type"}));
  EXPECT_EQ(config.origins.at("run.name"), (Origin{Origin::kDerived, "the file's name"}));
  EXPECT_EQ(config.origins.at("eval.every"), (Origin{Origin::kDefault, ""}));
  EXPECT_EQ(config.name, "small");
}

TEST(Config, OverridesWinOverTheFileAndTheLastWins) {
  const Config config = Parsed("model: {type: mlp, hidden: [8]}\ndata: {dataset: digits}\noptim: {lr: 0.5, momentum: 0.9}\n",
                               {"optim.lr=0.1", "optim.lr=0.2", "model.hidden=[16, 8]", "checkpoint.every=never",
                                "train.early_stop.patience=5", "strategy.bucket=512kB", "data.valid=0.2", "run.name='7'"});
  EXPECT_EQ(config.values.Double("optim.lr", 0), 0.2);
  EXPECT_EQ(config.values.Double("optim.momentum", 0), 0.9);
  EXPECT_THAT(config.values.Ints("model.hidden"), ElementsAre(16, 8));
  EXPECT_EQ(config.values.String("checkpoint.every", ""), "never");
  EXPECT_EQ(config.values.Int("train.early_stop.patience", 0), 5);
  EXPECT_EQ(config.values.String("train.early_stop.mode", ""), "max");
  EXPECT_EQ(config.values.Int("strategy.bucket", 0), 512 << 10);
  EXPECT_EQ(config.values.Double("data.valid", 0), 0.2);
  EXPECT_EQ(config.name, "7");
}

TEST(Config, NullOnTheCommandLineTakesAKeyOfTheFileAway) {
  constexpr const char* kText =
      "model: {type: mlp}\ndata: {dataset: digits}\noptim: {momentum: 0.9, clip_norm: 1}\ntrain: {early_stop: {patience: 4}}\n";
  const Config config = Parsed(kText, {"optim.type=adam", "optim.momentum=null", "optim.clip_norm=null", "train.early_stop=null"});
  EXPECT_EQ(config.values.String("optim.type", ""), "adam");
  EXPECT_TRUE(config.values.At("optim.clip_norm").is_null());
  EXPECT_TRUE(config.values.At("train.early_stop").is_null());
}

TEST(Config, AMetricThatIsALossIsBetterWhenLess) {
  const Config config = Parsed(kSmall, {"train.early_stop.metric=valid_loss", "checkpoint.keep_best={metric: valid_accuracy, count: 3}"});
  EXPECT_EQ(config.values.String("train.early_stop.mode", ""), "min");
  EXPECT_EQ(config.values.String("checkpoint.keep_best.mode", ""), "max");
}

TEST(Config, AModelOfTheUsersOwnHasKeysOfItsOwn) {
  const Config config = Parsed(R"(
model: {type: transformer, heads: 8, dropout: [0.1, 0.2], rate: 1.0, act: gelu, tied: true, label: "12", hidden: wide}
data: {dataset: logs, window: 128, path: /var/log, workers: 2}
)");
  EXPECT_EQ(config.values.Int("model.heads", 0), 8);
  EXPECT_THAT(config.values.Doubles("model.dropout"), ElementsAre(0.1, 0.2));
  EXPECT_EQ(config.values.At("model.rate"), Value(1.0));
  EXPECT_EQ(config.values.At("model.tied"), Value(true));
  EXPECT_EQ(config.values.At("model.label"), Value("12"));
  EXPECT_EQ(config.values.String("model.hidden", ""), "wide");
  EXPECT_EQ(config.values.String("data.path", ""), "/var/log");
  EXPECT_EQ(config.values.Int("data.workers", 0), 2);
  EXPECT_TRUE(config.values.At("data.delimiter").is_null());
  EXPECT_EQ(Parsed(ToYaml(config, false)).values, config.values);
}

TEST(Config, ALoopOfTheUsersOwnNeedsNeitherModelNorData) {
  EXPECT_FALSE(ParseConfig("optim: {lr: 0.1}\n", "x.yaml", {}).ok());
  const auto config = ParseConfig("optim: {lr: 0.1}\n", "x.yaml", {}, ConfigUse::kOwnLoop);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_TRUE(config->values.At("model.type").is_null());
  const auto again = ParseConfig(ToYaml(*config, false), "x.yaml", {}, ConfigUse::kOwnLoop);
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(again->values, config->values);
}

TEST(Config, DataRootFallsBackToTheEnvironment) {
  const char* before = std::getenv("DTRAIN_DATA");
  const std::string saved = before == nullptr ? "" : before;
  unsetenv("DTRAIN_DATA");
  EXPECT_EQ(Parsed(kSmall).values.String("data.root", ""), "data");
  setenv("DTRAIN_DATA", "/srv/sets", 1);
  EXPECT_EQ(Parsed(kSmall).values.String("data.root", ""), "/srv/sets");
  EXPECT_EQ(Parsed(kSmall, {"data.root=here"}).values.String("data.root", ""), "here");
  if (before == nullptr) {
    unsetenv("DTRAIN_DATA");
  } else {
    setenv("DTRAIN_DATA", saved.c_str(), 1);
  }
}

TEST(ToYaml, ReadsBackEqualForEveryTypeOfValue) {
  for (const std::vector<std::string>& overrides : std::vector<std::vector<std::string>>{
           {},
           {"optim.type=adamw", "optim.eps=1e-12", "optim.lr=3"},
           {"optim.schedule={type: step, size: 250st, gamma: 0.3}", "train.duration=90min"},
           {"checkpoint.every=[30s, 2h, 7ep]", "strategy.deadline=333ms", "strategy.bucket=12345B"},
           {"run.name='true'", "run.dir='a: \"b\" #c'", "strategy.interface=127.0.0.1", "train.class_weights=[1, 2.5]"},
           {"data.dataset=csv", "data.path=/tmp/a b.csv", "data.label=3", "data.delimiter=tab", "data.header=false"},
           {"data.dataset=csv", "data.path='ünï'", "data.label='-1'", "data.delimiter=';'", "data.task=binary"},
           {"data.dataset=synthetic", "data.shape=12", "data.classes=2", "data.batch={per_rank: 3, accumulation: 2}"},
           {"data.transforms=[{type: normalize, mean: [0.5, 1], std: 1.0}, {type: flip, note: 'yes', on: true}]"},
           {"log.trace={steps: [1, 2]}", "train.threads=3", "eval.every=never", "run.seed=9007199254740991"},
           {"model.type=mine", "model.a=1e22", "model.b='1'", "model.c=[[1, x], [true]]", "model.d=null", "model.e=''", "model.f=-0.0"},
       }) {
    const Config config = Parsed(kSmall, overrides);
    const Config again = Parsed(ToYaml(config, false), {}, "again.yaml");
    EXPECT_EQ(again.values, config.values) << ToYaml(config, false);
    EXPECT_EQ(ToYaml(again, false), ToYaml(config, false));
    EXPECT_EQ(Parsed(ToYaml(config, true), {}, "small.yaml").values, config.values) << ToYaml(config, true);
    EXPECT_EQ(ConfigHash(again), ConfigHash(config));
  }
}

TEST(ToYaml, MinimalHoldsWhatWasSetAndNothingElse) {
  EXPECT_EQ(ToYaml(Parsed("data: {dataset: digits}\nmodel: {type: mlp, hidden: 32}\n", {"optim.schedule.warmup=10st"}), true),
            "model:\n  type: mlp\n  hidden: [32]\ndata:\n  dataset: digits\noptim:\n  schedule:\n    warmup: 10st\n");
}

TEST(ConfigHash, ChangesWithTheResultOnly) {
  const std::string hash = ConfigHash(Parsed(kSmall));
  EXPECT_EQ(hash.size(), 64u);
  for (const char* same : {"run.name=other", "run.dir=/tmp", "log.level=debug", "strategy.type=ring", "strategy.bucket=1MB", "data.root=/x",
                           "checkpoint.keep_last=9", "optim.lr=0.05", "data.batch.global=64", "data.prefetch=9"}) {
    EXPECT_EQ(ConfigHash(Parsed(kSmall, {same})), hash) << same;
  }
  for (const char* other : {"run.seed=8", "model.hidden=[512]", "optim.lr=0.06", "data.batch.global=32", "train.duration=11ep",
                            "data.sampler=sequential", "data.transforms=[{type: flip}]", "strategy.unused=zeros", "train.early_stop={}"}) {
    EXPECT_NE(ConfigHash(Parsed(kSmall, {other})), hash) << other;
  }
}

TEST(ResumeDifferences, NamesWhatChangedAndMayNot) {
  const auto differences = [](std::vector<std::string> before, std::vector<std::string> now) {
    return ResumeDifferences(Parsed(kSmall, std::move(before)).values, Parsed(kSmall, std::move(now)).values);
  };
  EXPECT_THAT(differences({}, {}), IsEmpty());
  EXPECT_THAT(
      differences({}, {"train.duration=20ep", "run.name=b", "log.console=none", "strategy.type=local", "train.early_stop.patience=9"}),
      IsEmpty());
  EXPECT_THAT(differences({"optim.lr=0.1"}, {"model.hidden=8", "optim.lr=0.2"}),
              ElementsAre("model.hidden: was [512, 512], now [8]", "optim.lr: was 0.1, now 0.2"));
  EXPECT_THAT(differences({"optim.momentum=0.9"}, {"optim.type=adam", "optim.lr=0.05"}), Contains("optim.momentum: was 0.9, now null"));
  EXPECT_THAT(differences({"model.type=mine", "model.width=3"}, {"model.type=mine", "model.width=4"}),
              ElementsAre("model.width: was 3, now 4"));
}

TEST(LoadConfig, ReadsAFileAndNamesItByItsStem) {
  const std::string path = testing::TempDir() + "/first run.yaml";
  std::ofstream(path) << kSmall;
  const auto config = LoadConfig(path, {});
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->name, "first run");
  EXPECT_EQ(config->source_text, kSmall);
  EXPECT_EQ(config->origins.at("model.type").where, path + ":1:15");
  std::filesystem::remove(path);
}

TEST(LoadConfig, AFileThatCannotBeReadIsAConfigurationError) {
  const auto absent = LoadConfig("/nowhere/x.yaml", {});
  EXPECT_EQ(absent.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ExitCodeOf(absent.status(), ExitCode::kUsage), ExitCode::kConfiguration);
  const auto folder = LoadConfig(testing::TempDir(), {});
  EXPECT_THAT(Message(folder.status()), HasSubstr("it is no file"));

  const std::string path = testing::TempDir() + "/huge.yaml";
  std::ofstream(path) << "a: " << std::string(2 << 20, 'x');
  EXPECT_THAT(Message(LoadConfig(path, {}).status()), HasSubstr("expected at most 1048576"));
  std::filesystem::remove(path);
}

TEST(ReadyConfigs, AllLoadWithoutAMistake) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(DTRAIN_SOURCE_DIR) + "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    const auto config = LoadConfig(entry.path().string(), {});
    EXPECT_TRUE(config.ok()) << config.status().message();
    ++files;
  }
  EXPECT_GE(files, 4);
}

}  // namespace
}  // namespace dtrain
