// Goal: `dtrain train` keeps its promises to a user: it learns, gives the same bits on any number of ranks, goes on
// exactly where it stopped, ends with the right exit code and message on every fault.
// Method: the real program with real processes, in a fresh folder; equal hashes of two runs are the oracle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/program.h"

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Train = ProgramTest;

TEST_F(Train, QuickstartWithTwoRanksLearnsTheDigits) {
  const Outcome outcome = Run({"train", std::string(kConfigs) + "/quickstart.yaml", "-n", "2"});
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  const json result = Result("quickstart");
  EXPECT_EQ(result["status"], "done");
  EXPECT_EQ(result["steps"], 1275);
  EXPECT_EQ(result["world_size"], 2);
  EXPECT_GE(result["metrics"]["valid_accuracy"].get<double>(), 0.96);
  double phases = 0;
  for (const auto& [name, seconds] : result["phases"].items()) phases += seconds.get<double>();
  EXPECT_NEAR(phases, result["train_s"].get<double>(), 0.02 * result["train_s"].get<double>());
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("32 global"), HasSubstr("digits"), HasSubstr("dtrain eval")));
  for (const char* file : {"config.yaml", "resolved.yaml", "env.json", "processes.json", "LATEST", "metrics.jsonl", "logs/rank-1.log"}) {
    EXPECT_TRUE(fs::exists(folder_ / "runs/quickstart" / file)) << file;
  }
  // The same command again prints the result and changes nothing.
  const Outcome again = Run({"train", std::string(kConfigs) + "/quickstart.yaml", "-n", "2"});
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.out, HasSubstr("finished already"));
  EXPECT_EQ(Result("quickstart"), result);
  // And evaluation of the checkpoint agrees with what training said.
  const Outcome eval = Run({"eval", "quickstart", "--json"});
  ASSERT_EQ(eval.code, 0) << eval.err;
  EXPECT_EQ(json::parse(eval.out)["metrics"]["valid_accuracy"], result["metrics"]["valid_accuracy"]);
}

TEST_F(Train, EveryNumberOfRanksGivesTheSameBits) {
  const std::vector<std::string> plain = {"train.duration=3ep"};
  const std::string hash = Hash("p1", 1, plain);
  for (const int ranks : {2, 3, 4}) EXPECT_EQ(Hash("p" + std::to_string(ranks), ranks, plain), hash) << ranks;
  const std::vector<std::string> hard = {
      "train.duration=2ep",    "model.dropout=0.3",
      "model.batch_norm=true", "optim.type=adamw",
      "optim.momentum=null",   "optim.lr=0.003",
      "optim.clip_norm=0.5",   "data.transforms=[{type: pad_crop, pad: 1}, {type: rotate, degrees: 10}, {type: flip, probability: 0.2}]"};
  const std::string hard_hash = Hash("h1", 1, hard);
  EXPECT_NE(hard_hash, hash);
  for (const int ranks : {2, 3, 4}) EXPECT_EQ(Hash("h" + std::to_string(ranks), ranks, hard), hard_hash) << ranks;
  EXPECT_NE(Hash("seed", 1, {"train.duration=3ep", "run.seed=8"}), hash);
  // Nor does it matter what carries the gradients, in which pieces, and when they leave. The model has 320 kB, five buckets.
  const auto with = [&](const std::string& name, int ranks, std::vector<std::string> more) {
    more.insert(more.begin(), {"train.duration=2ep", "model.hidden=[256, 256]", "model.batch_norm=true", "optim.clip_norm=0.5"});
    return Hash(name, ranks, more);
  };
  const std::string wide_hash = with("w1", 1, {});
  EXPECT_EQ(with("w2", 2, {"strategy.bucket=64kB"}), wide_hash);
  EXPECT_EQ(with("u2", 2, {"strategy.shard_optimizer=false", "strategy.bucket=64kB"}), wide_hash);
  EXPECT_EQ(with("t2", 2, {"strategy.backend=tcp", "strategy.bucket=64kB"}), wide_hash);
  EXPECT_EQ(with("t3", 3, {"strategy.backend=tcp", "strategy.bucket=64kB", "strategy.overlap=false", "strategy.check_replicas=10st"}),
            wide_hash);
  EXPECT_EQ(with("t4", 4, {"strategy.backend=tcp"}), wide_hash);
}

TEST_F(Train, ResumesExactlyFromAnyStepOnAnyNumberOfRanks) {
  const std::vector<std::string> common = {"train.duration=120st", "checkpoint.every=never", "eval.every=never", "model.batch_norm=true",
                                           "model.dropout=0.2"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return more;
  };
  const std::string whole = Hash("whole", 2, common);
  // Step 1, the middle of an epoch, its end (51 steps): stop there by duration, then prolong on another number of ranks.
  for (const int step : {1, 30, 51}) {
    const std::string name = "part" + std::to_string(step);
    auto first = with({"train.duration=" + std::to_string(step) + "st", "optim.schedule.type=constant", "optim.schedule.warmup=0st"});
    Hash(name, 1, first);
    EXPECT_EQ(Result(name)["steps"], step);
    const std::string resumed = Hash(name, 3, with({"optim.schedule.type=constant", "optim.schedule.warmup=0st"}));
    EXPECT_EQ(Result(name)["steps"], 120);
    if (step == 1) Hash("constant", 2, with({"optim.schedule.type=constant", "optim.schedule.warmup=0st"}));
    EXPECT_EQ(resumed, Result("constant")["parameter_hash"]) << step;
  }
  EXPECT_NE(whole, Result("constant")["parameter_hash"]);
}

// The bias correction of Adam depends on the number of updates since the run's very beginning, whatever came between.
TEST_F(Train, ResumesTwiceExactlyWithAnOptimizerThatCountsItsUpdates) {
  const auto hash_at = [&](const std::string& name, int ranks, const std::string& duration) {
    return Hash(name, ranks,
                {"train.duration=" + duration, "optim.type=adamw", "optim.momentum=null", "optim.lr=0.003", "optim.schedule.type=constant",
                 "optim.schedule.warmup=0st", "model.batch_norm=true"});
  };
  const std::string whole = hash_at("whole", 1, "60st");
  hash_at("parts", 2, "10st");
  hash_at("parts", 1, "25st");
  EXPECT_EQ(hash_at("parts", 3, "60st"), whole);
  EXPECT_EQ(Result("parts")["updates"], 60);
  // The checkpoint says the same of itself.
  const Outcome inspect = Run({"inspect", "checkpoint", "parts", "--json"});
  ASSERT_EQ(inspect.code, 0) << inspect.err;
  EXPECT_EQ(json::parse(inspect.out)["parameter_hash"], whole);
  EXPECT_EQ(json::parse(inspect.out)["state"]["updates"], 60);
}

TEST_F(Train, SigtermSavesAndExits75AndTheSameCommandGoesOn) {
  const std::vector<std::string> words = {
      "train", std::string(kConfigs) + "/quickstart.yaml", "-n", "2", "train.duration=100ep", "checkpoint.every=100st"};
  auto whole = words;
  whole.push_back("run.name=whole");
  ASSERT_EQ(Run(whole).code, 0);
  const pid_t pid = Start(words);
  ASSERT_TRUE(WaitForCheckpoint("quickstart", 200));
  kill(pid, SIGTERM);
  const Outcome stopped = Wait(pid);
  EXPECT_EQ(stopped.code, 75) << stopped.out << stopped.err;
  EXPECT_EQ(Result("quickstart")["status"], "stopped");
  const int64_t at = Result("quickstart")["steps"];
  EXPECT_GE(at, 200);
  EXPECT_LT(at, 5100);
  const Outcome resumed = Run(words);
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(Result("quickstart")["steps"], 5100);
  EXPECT_EQ(Result("quickstart")["parameter_hash"], Result("whole")["parameter_hash"]);
}

TEST_F(Train, AKilledLauncherOrRankLosesNoCheckpoint) {
  const std::vector<std::string> words = {
      "train", std::string(kConfigs) + "/quickstart.yaml", "-n", "2", "train.duration=60ep", "checkpoint.every=50st"};
  auto whole = words;
  whole.push_back("run.name=whole");
  ASSERT_EQ(Run(whole).code, 0);
  pid_t pid = Start(words);
  ASSERT_TRUE(WaitForCheckpoint("quickstart", 100));
  kill(pid, SIGKILL);
  EXPECT_EQ(Wait(pid).code, 128 + SIGKILL);
  pid = Start(words);
  ASSERT_TRUE(WaitForCheckpoint("quickstart", 1000));
  const auto ranks = RankPids("quickstart");
  ASSERT_EQ(ranks.size(), 2u);
  kill(ranks[1], SIGKILL);
  const Outcome killed = Wait(pid);
  EXPECT_EQ(killed.code, 5);
  EXPECT_THAT(killed.out + killed.err, AllOf(HasSubstr("rank 1"), HasSubstr("killed by signal 9"), HasSubstr("step")));
  EXPECT_EQ(Result("quickstart")["status"], "failed");
  EXPECT_EQ(Run(words).code, 0);
  EXPECT_EQ(Result("quickstart")["parameter_hash"], Result("whole")["parameter_hash"]);
}

TEST_F(Train, AFrozenRankEndsTheJobWithinItsDeadline) {
  const pid_t pid =
      Start({"train", std::string(kConfigs) + "/quickstart.yaml", "-n", "2", "train.duration=10000ep", "strategy.deadline=500ms"});
  ASSERT_TRUE(WaitForCheckpoint("quickstart", 51));
  const auto ranks = RankPids("quickstart");
  ASSERT_EQ(ranks.size(), 2u);
  const auto before = std::chrono::steady_clock::now();
  kill(ranks[1], SIGSTOP);
  const Outcome frozen = Wait(pid);
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(10));
  EXPECT_EQ(frozen.code, 5);
  EXPECT_THAT(frozen.out + frozen.err, HasSubstr("rank 1"));
  EXPECT_EQ(kill(ranks[0], 0), -1);  // no rank is left
  EXPECT_EQ(kill(ranks[1], 0), -1);
}

TEST_F(Train, StatusSaveAndStopReachARunningJob) {
  const pid_t pid =
      Start({"train", std::string(kConfigs) + "/quickstart.yaml", "train.duration=100000ep", "checkpoint.every=never", "eval.every=1ep"});
  json status;
  for (int i = 0; i < 1000; ++i) {
    const pid_t ask = fork();
    if (ask == 0) {
      if (chdir(folder_.c_str()) != 0) _exit(99);
      dup2(open("status.txt", O_CREAT | O_WRONLY | O_TRUNC, 0644), 1);
      dup2(open("/dev/null", O_WRONLY), 2);
      execl(DTRAIN_PROGRAM, "dtrain", "status", "runs/quickstart", "--json", nullptr);
      _exit(98);
    }
    waitpid(ask, nullptr, 0);
    status = json::parse(ReadFile(folder_ / "status.txt"), nullptr, false);
    if (status.is_object() && status.value("status", "") == "running" && status["step"].is_number() && status["step"].get<int64_t>() > 0)
      break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(status.value("status", ""), "running");
  const auto say = [&](const char* verb) {
    const pid_t ask = fork();
    if (ask == 0) {
      if (chdir(folder_.c_str()) != 0) _exit(99);
      execl(DTRAIN_PROGRAM, "dtrain", verb, "quickstart", "-q", nullptr);
      _exit(98);
    }
    int code = 0;
    waitpid(ask, &code, 0);
    return WEXITSTATUS(code);
  };
  EXPECT_EQ(say("save"), 0);
  EXPECT_TRUE(WaitForCheckpoint("quickstart", 1));
  // Two processes on one run directory: the second is refused.
  const pid_t second = fork();
  if (second == 0) {
    if (chdir(folder_.c_str()) != 0) _exit(99);
    dup2(open("second.txt", O_CREAT | O_WRONLY | O_TRUNC, 0644), 2);
    execl(DTRAIN_PROGRAM, "dtrain", "train", (std::string(kConfigs) + "/quickstart.yaml").c_str(), "train.duration=100000ep", nullptr);
    _exit(98);
  }
  int code = 0;
  waitpid(second, &code, 0);
  EXPECT_EQ(WEXITSTATUS(code), 4);
  EXPECT_THAT(ReadFile(folder_ / "second.txt"), HasSubstr("quickstart"));
  EXPECT_EQ(say("stop"), 0);
  EXPECT_EQ(Wait(pid).code, 75);
  EXPECT_NE(say("stop"), 0);  // nothing runs any more
}

TEST_F(Train, FaultsHaveTheirExitCodesAndSayWhatToDo) {
  struct Case {
    const char* name;
    std::vector<std::string> words;
    int code;
    std::vector<std::string> says;
  };
  const std::string quickstart = std::string(kConfigs) + "/quickstart.yaml";
  Write("ragged.csv", "a,b,c\n1,2,0\n3,1\n");
  Write("csv.yaml", "model: {type: logistic}\ndata: {dataset: csv, path: ragged.csv}\n");
  Write("unknown.yaml", "model: {type: mlp, hiden: [3]}\ndata: {dataset: digits}\noptim: {lr: fast}\noptim: {lr: 1}\n");
  const std::vector<Case> cases = {
      {"no verb", {"trian"}, 2, {"did you mean 'train'"}},
      {"unknown option", {"train", quickstart, "--frsh"}, 2, {"--fresh"}},
      {"no file", {"train", "absent.yaml"}, 3, {"absent.yaml", "no such file"}},
      {"mistakes", {"train", "unknown.yaml"}, 3, {"unknown.yaml:1:20", "hidden", "3 mistakes"}},
      {"override", {"train", quickstart, "optim.lr=-1"}, 3, {"optim.lr", "> 0"}},
      {"batch", {"train", quickstart, "-n", "16"}, 3, {"micro_batches"}},
      {"gpu", {"train", quickstart, "train.device=cuda"}, 4, {"GPU", "train.device"}},
      {"no data", {"train", quickstart, "data.dataset=mnist", "data.root=/nowhere"}, 4, {"/nowhere"}},
      {"ragged", {"train", "csv.yaml"}, 4, {"ragged.csv:3"}},
      {"diverged",
       {"train", quickstart, "optim.lr=1e6", "run.name=diverged", "optim.schedule.warmup=0st", "-n", "2"},
       6,
       {"not finite", "optim.clip_norm"}},
      {"model", {"train", quickstart, "model.type=convent"}, 3, {"convnet"}},
  };
  for (const Case& c : cases) {
    const Outcome outcome = Run(c.words);
    EXPECT_EQ(outcome.code, c.code) << c.name << "\n" << outcome.out << outcome.err;
    for (const std::string& text : c.says) EXPECT_THAT(outcome.out + outcome.err, HasSubstr(text)) << c.name;
  }
  EXPECT_EQ(Result("diverged")["exit_code"], 6);
  EXPECT_EQ(Result("diverged")["status"], "diverged");
}

TEST_F(Train, NanPoliciesSkipAndRollBackGoOn) {
  // A learning rate that explodes at once and is halved by each roll back ends in the limit of roll backs or in a result;
  // with skip the run ends at its length or gives up; neither may crash or apply what is not finite.
  const Outcome rolled = Run({"train", std::string(kConfigs) + "/quickstart.yaml", "optim.lr=30", "optim.momentum=0.99",
                              "train.duration=2ep", "train.nan_policy=roll_back", "optim.schedule.warmup=20st", "checkpoint.every=5st",
                              "model.hidden=[256, 256, 256]", "run.name=rolled"});
  EXPECT_THAT(rolled.code, ::testing::AnyOf(0, 6)) << rolled.out << rolled.err;
  const Outcome skipped = Run({"train", std::string(kConfigs) + "/quickstart.yaml", "optim.lr=1e6", "train.duration=4ep",
                               "train.nan_policy=skip", "optim.schedule.warmup=0st", "model.hidden=[256, 256, 256]", "run.name=skipped"});
  EXPECT_THAT(skipped.code, ::testing::AnyOf(0, 6)) << skipped.out << skipped.err;
}

TEST_F(Train, FreshMovesTheOldRunAsideAndAChangedConfigurationIsRefused) {
  Hash("again", 1, {"train.duration=20st"});
  const Outcome changed =
      Run({"train", std::string(kConfigs) + "/quickstart.yaml", "run.name=again", "train.duration=30st", "model.hidden=[32]"});
  EXPECT_EQ(changed.code, 3) << changed.out;
  EXPECT_THAT(changed.err, AllOf(HasSubstr("model.hidden"), HasSubstr("--fresh")));
  const Outcome fresh =
      Run({"train", std::string(kConfigs) + "/quickstart.yaml", "run.name=again", "train.duration=30st", "model.hidden=[32]", "--fresh"});
  EXPECT_EQ(fresh.code, 0) << fresh.err;
  EXPECT_EQ(Result("again")["steps"], 30);
  EXPECT_TRUE(fs::exists(folder_ / "runs/again.before-1/result.json"));
}

TEST_F(Train, InitFromTakesTheTensorsOfAnotherRun) {
  const std::string hash = Hash("source", 1, {"train.duration=20st"});
  ASSERT_EQ(Run({"export", "source", "--output", "model.safetensors"}).code, 0);
  const Outcome outcome = Run({"train", std::string(kConfigs) + "/quickstart.yaml", "run.name=target", "train.duration=1st",
                               "optim.lr=1e-30", "--init-from", "model.safetensors"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Result("target")["parameter_hash"], hash);  // a step that changes nothing
  const Outcome wrong =
      Run({"train", std::string(kConfigs) + "/quickstart.yaml", "run.name=wrong", "model.hidden=[3]", "--init-from", "model.safetensors"});
  EXPECT_EQ(wrong.code, 4);
  EXPECT_THAT(wrong.out + wrong.err, HasSubstr("fc1.weight"));
}

TEST_F(Train, DryRunDoesEverythingButAStep) {
  const Outcome outcome = Run({"train", std::string(kConfigs) + "/quickstart.yaml", "-n", "2", "--dry-run"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("32 global"), HasSubstr("nothing was trained")));
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
}

TEST_F(Train, AUsersOwnModelRegistersWithOneMacro) {
  Write("own.yaml",
        "run: {reproducible: true}\nmodel: {type: two_heads, width: 24}\ndata: {dataset: iris}\noptim: {type: adam, lr: 0.01}\ntrain: "
        "{duration: 40ep}\n");
  const Outcome outcome = Run({"train", "own.yaml", "-n", "2"}, DTRAIN_OWN_MODEL_PROGRAM);
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_GE(Result("own")["metrics"]["valid_accuracy"].get<double>(), 0.8);
}

// The runs on published data sets. Full lengths and their figures: docs/results.md.
class TrainOnData : public ProgramTest {
 protected:
  void SetUp() override {
    const char* root = std::getenv("DTRAIN_DATA");
    const std::string wanted = std::string(root != nullptr ? root : "data") + "/" + GetParamName();
    if (!fs::exists(wanted)) GTEST_SKIP() << "no data: " << wanted << " is not there (set DTRAIN_DATA)";
    Train::SetUp();
  }
  static std::string GetParamName() {
    return std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()).starts_with("Mnist") ? "mnist" : "fashion-mnist";
  }
};

// 84.9 +- 0.7 % over ten seeds; five deviations for one seed.
TEST_F(TrainOnData, MnistConvnetReachesTheAccuracyOfRaysExample) {
  const Outcome outcome = Run({"train", std::string(kConfigs) + "/mnist_convnet.yaml", "eval.every=200st"});
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_NEAR(Result("mnist_convnet")["metrics"]["valid_accuracy"].get<double>(), 0.849, 0.035);
}

TEST_F(TrainOnData, FashionMlpLearnsOnTwoRanks) {
  const Outcome outcome = Run({"train", std::string(kConfigs) + "/fashion_mlp.yaml", "-n", "2", "train.duration=400st"});
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_GE(Result("fashion_mlp")["metrics"]["valid_accuracy"].get<double>(), 0.45);
}

TEST_F(TrainOnData, FashionParityIsTheSameOnAnyNumberOfRanks) {
  std::string hash;
  for (const char* ranks : {"1", "2", "3"}) {
    const std::string name = std::string("parity") + ranks;
    const Outcome outcome = Run({"train", std::string(kConfigs) + "/fashion_parity.yaml", "-n", ranks, "train.duration=40st",
                                 "run.reproducible=true", "run.name=" + name});
    ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
    const std::string found = Result(name)["parameter_hash"];
    if (hash.empty()) hash = found;
    EXPECT_EQ(found, hash) << ranks;
  }
}

}  // namespace
}  // namespace dtrain
