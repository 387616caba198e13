// Goal: every class of mistake is found, all at once, each at its place and with what to do. Method: texts with known lines
// and columns against the whole message, word for word.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "trainer/config/config.h"

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Refusal(std::string_view text, const std::vector<std::string>& overrides = {}) {
  const auto config = ParseConfig(text, "x.yaml", overrides);
  if (config.ok()) return "accepted";
  EXPECT_EQ(config.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ExitCodeOf(config.status(), ExitCode::kUsage), ExitCode::kConfiguration);
  return Message(config.status());
}

// The refusal of a good configuration with one more line, its only mistake, without place and count: "key: found ...".
std::string MistakeIn(const std::string& line) {
  const std::string refusal = Refusal(Cat("model: {type: mlp}\ndata: {dataset: digits}\n", line, "\n"));
  constexpr std::string_view kCount = "\n1 mistake in x.yaml";
  EXPECT_THAT(refusal, AllOf(StartsWith("x.yaml"), testing::EndsWith(kCount))) << line;
  const size_t begin = refusal.find(": ") + 2;
  return refusal.size() < kCount.size() + begin ? refusal : refusal.substr(begin, refusal.size() - kCount.size() - begin);
}

TEST(Mistakes, AreAllReportedAtOnceInOrderOfPlace) {
  EXPECT_EQ(
      Refusal(R"(run: {seed: -1, reproducible: yes}
model:
  type: mlp
  hiden: [64]
data:
  dataset: digits
  batch: {global: 64, global: 32}
  sampler: shufled
optim:
  lr: fast
  momentum: 1.5
  schedule: {type: cosine, warmup: 10}
train: {duration: 10 epochs, early_stop: soon}
stratgy: {type: ring}
checkpoint: {every: [1ep, 5]}
)",
              {"eval.every=0ep", "optim.lrr=3", "nonsense"}),
      "x.yaml:1:13: run.seed: found '-1', expected an integer >= 0; it must be at least 0\n"
      "x.yaml:1:31: run.reproducible: found 'yes', expected true or false; write true, without quotes\n"
      "x.yaml:4:3: 'model.hiden': unknown key; did you mean model.hidden?\n"
      "x.yaml:7:23: data.batch.global: found twice, expected once; first in line 7\n"
      "x.yaml:8:12: data.sampler: found 'shufled', expected shuffled, sequential or independent; did you mean shuffled?\n"
      "x.yaml:10:7: optim.lr: found 'fast', expected a number > 0\n"
      "x.yaml:11:13: optim.momentum: found '1.5', expected a number in [0, 1); it must be below 1\n"
      "x.yaml:12:36: optim.schedule.warmup: found '10', expected epochs or steps (10ep, 5000st); add the unit, for example 10ep\n"
      "x.yaml:13:19: train.duration: found '10 epochs', expected a duration (10ep, 5000st, 2h); did you mean 10ep?\n"
      "x.yaml:13:42: train.early_stop: found 'soon', expected a map of keys\n"
      "x.yaml:14:1: 'stratgy': unknown key; did you mean strategy?\n"
      "x.yaml:15:27: checkpoint.every: found '5', expected a duration (10ep, 5000st, 2h) or a list of them or never; add the unit, for "
      "example 5ep\n"
      "command line: eval.every: found '0ep', expected a duration (10ep, 5000st, 2h) or never; it must be above 0\n"
      "command line: 'optim.lrr': unknown key; did you mean optim.lr?\n"
      "command line: found 'nonsense', expected key=value, such as optim.lr=0.1\n"
      "15 mistakes in x.yaml and the command line");
}

TEST(Mistakes, AMissingKeyHasNoPlaceAndComesLast) {
  EXPECT_EQ(
      Refusal("optim: {lr: -1}\n"),
      "x.yaml:1:13: optim.lr: found '-1', expected a number > 0; it must be above 0\n"
      "x.yaml: model.type: missing; Built in: mlp, convnet, logistic; or the name of a registered model\n"
      "x.yaml: data.dataset: missing; Built in: mnist, fashion-mnist, digits, iris, csv, synthetic; or the name of a registered data set\n"
      "3 mistakes in x.yaml");
}

TEST(Mistakes, AnUnknownKeyIsLookedForEverywhere) {
  EXPECT_EQ(MistakeIn("lr: 0.1"), "'lr': unknown key; did you mean optim.lr?");
  EXPECT_EQ(MistakeIn("optim: {duration: 1ep}"), "'optim.duration': unknown key; did you mean train.duration?");
  EXPECT_EQ(MistakeIn("train: {reproducable: true}"), "'train.reproducable': unknown key; did you mean run.reproducible?");
  EXPECT_EQ(MistakeIn("optim: {xyzzy: 1}"), "'optim.xyzzy': unknown key");
  EXPECT_EQ(MistakeIn("optim.lr: 0.1"), "'optim.lr': unknown key");
  EXPECT_THAT(MistakeIn(Cat("? ", std::string(2000, 'k'), "\n: 1")), HasSubstr("...': unknown key"));
}

TEST(Mistakes, NumbersThatAreAbsurdOrNoneAreRefused) {
  EXPECT_EQ(MistakeIn("optim: {lr: 1e400}"), "optim.lr: found '1e400', expected a number > 0; it does not fit into a number");
  EXPECT_EQ(MistakeIn("optim: {lr: 1e-400}"), "optim.lr: found '1e-400', expected a number > 0; it does not fit into a number");
  EXPECT_EQ(MistakeIn("optim: {lr: nan}"), "optim.lr: found 'nan', expected a number > 0");
  EXPECT_EQ(MistakeIn("optim: {lr: .inf}"), "optim.lr: found '.inf', expected a number > 0");
  EXPECT_EQ(MistakeIn("optim: {lr: -inf}"), "optim.lr: found '-inf', expected a number > 0");
  EXPECT_EQ(MistakeIn("optim: {lr: 0}"), "optim.lr: found '0', expected a number > 0; it must be above 0");
  EXPECT_EQ(MistakeIn("optim: {lr: 1e7}"), "optim.lr: found '1e7', expected a number > 0; it must be at most 1e+06");
  EXPECT_EQ(MistakeIn("optim: {lr: '0.1'}"), "optim.lr: found '0.1', expected a number > 0; write it without quotes");
  EXPECT_EQ(MistakeIn("optim: {lr: 0x1}"), "optim.lr: found '0x1', expected a number > 0");
  EXPECT_EQ(MistakeIn("optim: {lr: [0.1]}"), "optim.lr: found a list, expected a number > 0");
  EXPECT_EQ(MistakeIn("optim: {lr: }"), "optim.lr: found nothing, expected a number > 0");
  EXPECT_EQ(MistakeIn("eval: {batch: 99999999999999999999}"),
            "eval.batch: found '99999999999999999999', expected an integer >= 1; it does not fit into 64 bits");
  EXPECT_EQ(MistakeIn("eval: {batch: 3000000000}"),
            "eval.batch: found '3000000000', expected an integer >= 1; it must be at most 2147483647");
  EXPECT_EQ(MistakeIn("eval: {batch: 1e3}"), "eval.batch: found '1e3', expected an integer >= 1; did you mean 1000?");
  EXPECT_EQ(MistakeIn("eval: {batch: 64.5}"), "eval.batch: found '64.5', expected an integer >= 1");
  EXPECT_EQ(MistakeIn("eval: {batch: 1_000}"), "eval.batch: found '1_000', expected an integer >= 1; did you mean 1000?");
  EXPECT_EQ(MistakeIn("model2: 1"), "'model2': unknown key; did you mean model?");
}

TEST(Mistakes, WrongUnitsAreRefused) {
  EXPECT_EQ(MistakeIn("strategy: {bucket: 4}"), "strategy.bucket: found '4', expected a size (512kB, 4MB); add the unit: 4B, 4kB or 4MB");
  EXPECT_EQ(MistakeIn("strategy: {bucket: 4mb}"), "strategy.bucket: found '4mb', expected a size (512kB, 4MB)");
  EXPECT_EQ(MistakeIn("strategy: {bucket: 1B}"),
            "strategy.bucket: found '1B', expected a size (512kB, 4MB); it must lie between 4kB and 1GB");
  EXPECT_EQ(MistakeIn("strategy: {bucket: 99999999999999GB}"), "strategy.bucket: found '99999999999999GB', expected a size (512kB, 4MB)");
  EXPECT_EQ(MistakeIn("strategy: {deadline: 5}"),
            "strategy.deadline: found '5', expected a time (500ms, 5s, 10min, 2h); add the unit, for example 5s");
  EXPECT_EQ(MistakeIn("strategy: {deadline: 5ep}"),
            "strategy.deadline: found '5ep', expected a time (500ms, 5s, 10min, 2h); only a time makes sense here");
  EXPECT_EQ(MistakeIn("strategy: {deadline: 1ms}"),
            "strategy.deadline: found '1ms', expected a time (500ms, 5s, 10min, 2h); it must lie between 100ms and 24h");
  EXPECT_EQ(MistakeIn("optim: {schedule: {warmup: 1h}}"),
            "optim.schedule.warmup: found '1h', expected epochs or steps (10ep, 5000st); it must not depend on the clock");
}

TEST(Mistakes, WhatIsNotBuiltIsRefusedNotIgnored) {
  EXPECT_EQ(MistakeIn("strategy: {type: ps}"), "strategy.type: found ps: not available in this version; leave it at auto");
  EXPECT_EQ(MistakeIn("strategy: {elastic: true}"), "strategy.elastic: found true: not available in this version; leave it at false");
  EXPECT_EQ(MistakeIn("optim: {ema: 0.999}"), "optim.ema: found 0.999: not available in this version; leave it at null");
  EXPECT_EQ(MistakeIn("optim: {groups: [{match: bias}]}"),
            "optim.groups: found [{match: bias}]: not available in this version; leave it at []");
  EXPECT_EQ(MistakeIn("train: {precision: bf16}"), "train.precision: found bf16: not available in this version; leave it at fp32");
  EXPECT_EQ(Refusal("model: {type: mlp}\ndata: {dataset: digits}\nstrategy: {elastic: false, shard_optimizer: false}\noptim: {ema: null, "
                    "groups: []}\n"),
            "accepted");
}

TEST(Mistakes, AKeyOfAnotherTypeIsRefused) {
  EXPECT_EQ(MistakeIn("optim: {type: adam, momentum: 0.9}"),
            "optim.momentum: found 0.9 with optim.type: adam, expected only with sgd, rmsprop; leave it out");
  EXPECT_EQ(MistakeIn("strategy: {replicas: 1}"),
            "strategy.replicas: found 1 with strategy.type: auto, expected only with ps; leave it out");
  EXPECT_EQ(MistakeIn("optim: {schedule: {size: 3ep}}"),
            "optim.schedule.size: found 3ep with optim.schedule.type: constant, expected only with step; leave it out");
  EXPECT_EQ(Refusal("model: {type: convnet, hidden: [3]}\ndata: {dataset: mnist, delimiter: ';'}\n"),
            "x.yaml:1:32: model.hidden: found [3] with model.type: convnet, expected only with mlp; leave it out\n"
            "x.yaml:2:35: data.delimiter: found \";\" with data.dataset: mnist, expected only with csv; leave it out\n"
            "2 mistakes in x.yaml");
  EXPECT_THAT(Refusal("model: {type: convnet, heads: 3}\ndata: {dataset: mnist}\n"), HasSubstr("'model.heads': unknown key"));
  EXPECT_THAT(Refusal("model: {type: mlp}\ndata: {dataset: csv}\n"), HasSubstr("x.yaml: data.path: missing"));
}

TEST(Mistakes, ContradictionsAreRefused) {
  EXPECT_EQ(MistakeIn("optim: {nesterov: true}"),
            "optim.nesterov: found true, expected optim.momentum > 0 and optim.dampening 0 beside it");
  EXPECT_EQ(MistakeIn("optim: {dampening: 0.5}"), "optim.dampening: found 0.5 without momentum, expected optim.momentum > 0 beside it");
  EXPECT_EQ(MistakeIn("optim: {schedule: {warmup: 10ep}}"), "optim.schedule.warmup: found 10ep, expected less than train.duration: 10ep");
  EXPECT_EQ(MistakeIn("strategy: {deadline: 20min}"), "strategy.stall: found 10min, expected no less than strategy.deadline: 20min");
  EXPECT_EQ(MistakeIn("log: {trace: {steps: [30, 20]}}"),
            "log.trace.steps: found [30, 20], expected two steps, the first below the second");
  EXPECT_EQ(MistakeIn("log: {trace: {steps: [30]}}"), "log.trace.steps: found [30], expected two steps, the first below the second");
  EXPECT_EQ(MistakeIn("train: {class_weights: [0, 0]}"),
            "train.class_weights: found [0.0, 0.0], expected one weight a class, at least one above 0");
  EXPECT_EQ(MistakeIn("train: {class_weights: [1, 2], loss: mse}"),
            "train.class_weights: found weights with train.loss: mse, expected null; a regression has no classes");
  EXPECT_EQ(MistakeIn("eval: {every: never}\ncheckpoint: {keep_best: {}}"),
            "eval.every: found never, expected a duration: checkpoint.keep_best goes by valid_accuracy");
  EXPECT_EQ(MistakeIn("run: {name: a/b}"), "run.name: found 'a/b', expected the name of a directory: 1 to 100 bytes, no slash");
  EXPECT_EQ(MistakeIn("run: {name: '..'}"), "run.name: found '..', expected the name of a directory: 1 to 100 bytes, no slash");
}

TEST(Mistakes, WhatBreaksReproducibilityIsRefused) {
  EXPECT_EQ(MistakeIn("run: {reproducible: true}\ntrain: {duration: 1h}"),
            "train.duration: found 1h with run.reproducible: true, expected epochs or steps; the clock is never the same twice");
  EXPECT_EQ(MistakeIn("run: {reproducible: true}\neval: {every: 1min}\ntrain: {early_stop: {}}"),
            "eval.every: found 1min with run.reproducible: true and train.early_stop, expected epochs or steps");
  EXPECT_EQ(MistakeIn("train: {duration: 1h}\noptim: {schedule: {type: cosine}}"),
            "train.duration: found 1h with optim.schedule.type: cosine, expected epochs or steps; the end of the curve must be known");
  const auto batch = [](const char* batch) {
    return Refusal(Cat("run: {reproducible: true}\nmodel: {type: mlp}\ndata: {dataset: digits, batch: ", batch, "}\n"));
  };
  EXPECT_THAT(batch("{per_rank: 32}"), StartsWith("x.yaml:3:43: data.batch.per_rank: found 32 with run.reproducible: true, expected null"));
  EXPECT_THAT(batch("{micro_batches: 12}"),
              StartsWith("x.yaml:3:48: data.batch.micro_batches: found 12, expected a power of two; nearest: 8 or 16\n1 mistake"));
  EXPECT_THAT(batch("{global: 4}"), StartsWith("x.yaml: data.batch.micro_batches: found 8 for a global batch of 4, expected 4 or less"));
  EXPECT_THAT(
      Refusal("model: {type: mlp}\ndata: {dataset: digits, batch: {accumulation: 2}}\n"),
      StartsWith("x.yaml:2:47: data.batch.accumulation: found 2 alone, expected data.batch.global or data.batch.per_rank beside it"));
}

TEST(Mistakes, OfShapeAreRefused) {
  EXPECT_EQ(MistakeIn("optim: 3"), "optim: found '3', expected a map of keys");
  EXPECT_THAT(Refusal("[1, 2]\n"), StartsWith("x.yaml:1:1: the file: found a list, expected a map of keys\n"));
  EXPECT_THAT(Refusal("just text\n"), StartsWith("x.yaml:1:1: the file: found 'just text', expected a map of keys\n"));
  EXPECT_THAT(Refusal("model: {type: mlp\ndata: x\n"), HasSubstr("not YAML"));
  EXPECT_EQ(MistakeIn("checkpoint: {every: [1ep, never]}"), "checkpoint.every: found 'never' in a list, expected durations only");
  EXPECT_EQ(MistakeIn("checkpoint: {every: []}"),
            "checkpoint.every: found an empty list, expected a duration (10ep, 5000st, 2h) or a list of them or never");
  EXPECT_EQ(Refusal("model: {type: mine, 'a.b': 1, deep: {x: 1}, big: 1e999, no: .nan}\ndata: {dataset: digits}\n"),
            "x.yaml:1:21: 'model.a.b': found a name with other signs, expected letters, digits, _ and - in a key of your own\n"
            "x.yaml:1:37: model.deep: found a map, expected a scalar or a list\n"
            "x.yaml:1:50: model.big: found '1e999', expected a finite number; it does not fit into a number\n"
            "x.yaml:1:61: model.no: found '.nan', expected a finite number; write it in quotes if it is text\n"
            "4 mistakes in x.yaml");
  EXPECT_THAT(Refusal("model: {type: mlp, hidden: [8, [8]]}\ndata: {dataset: digits}\n"),
              StartsWith("x.yaml:1:32: model.hidden: found a list in the list, expected a list of integers >= 1"));
}

TEST(Mistakes, OnTheCommandLineAreNamed) {
  const auto refusal = [](const std::string& word) { return Refusal("model: {type: mlp}\ndata: {dataset: digits}\n", {word}); };
  EXPECT_THAT(refusal("optim.lr="), StartsWith("command line: found 'optim.lr=', expected key=value"));
  EXPECT_THAT(refusal("=3"), StartsWith("command line: found '=3', expected key=value"));
  EXPECT_THAT(refusal("optim..lr=3"), StartsWith("command line: found 'optim..lr=3', expected key=value"));
  EXPECT_THAT(refusal("model.hidden=[1, 2"), StartsWith("command line: 'model.hidden': found '[1, 2': not YAML"));
  EXPECT_THAT(refusal("optim.lr.x=3"), StartsWith("command line: optim.lr: found a map, expected a number > 0"));
  EXPECT_THAT(refusal("model.type=null"), StartsWith("x.yaml: model.type: missing"));
  EXPECT_THAT(Refusal("model: 3\ndata: {dataset: digits}\n", {"model.type=mlp"}),
              StartsWith("x.yaml:1:8: model: found '3', expected a map of keys"));
}

TEST(Mistakes, ThousandsOfThemStayReadable) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += Cat("k", i, ": 1\n");
  const std::string refusal = Refusal(text);
  EXPECT_THAT(refusal, HasSubstr("(402 more)\n502 mistakes in x.yaml"));
  EXPECT_EQ(std::count(refusal.begin(), refusal.end(), '\n'), 101);
}

}  // namespace
}  // namespace dtrain
