// Goal: a script can rely on result.json: every key, its type, all or nothing. Method: round trips; each key removed and
// given another type; a power cut at each operation of a write; every byte of a written file cut off.
#include "trainer/report/result.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/report/sample_events.h"
#include "trainer/report/fields.h"

namespace dtrain {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

constexpr const char* kPath = "run/result.json";

Value Sample() { return MakeResult(SampleEnd(1000), ExitCode::kDone, ""); }

TEST(MakeResult, HasEveryKeyWhateverIsKnown) {
  for (const Value& facts : {Value(), Value(Value::Map()), SampleEnd(10), Value(7)}) {
    const Value result = MakeResult(facts, ExitCode::kRankFailed, "rank 1 died");
    EXPECT_TRUE(CheckResult(result).ok()) << CheckResult(result);
    std::vector<std::string> keys;
    for (const auto& [key, value] : *result.if_map()) keys.push_back(key);
    EXPECT_THAT(keys, UnorderedElementsAre("status", "exit_code", "steps", "updates", "samples", "world_size", "train_s", "samples_per_s",
                                           "phases", "metrics", "parameter_hash", "checkpoints", "error"));
  }
}

TEST(MakeResult, TakesTheFacts) {
  const Value result = Sample();
  EXPECT_EQ(TextAt(result, "status"), "done");
  EXPECT_EQ(IntAt(result, "exit_code"), 0);
  EXPECT_EQ(IntAt(result, "steps"), 1000);
  EXPECT_EQ(IntAt(result, "samples"), 64'000);
  EXPECT_EQ(NumberAt(result, "train_s"), 40.0);
  EXPECT_EQ(NumberAt(result, "metrics.valid_accuracy"), 0.9722);
  EXPECT_EQ(TextAt(result, "parameter_hash"), std::string(64, 'a'));
  EXPECT_EQ(TextAt(result, "checkpoints.best"), "runs/quickstart/checkpoints/step-000900");
  EXPECT_TRUE(result.At("error").is_null());
}

TEST(MakeResult, StatusFollowsTheExitCode) {
  EXPECT_EQ(ResultStatus(ExitCode::kDone), "done");
  EXPECT_EQ(ResultStatus(ExitCode::kStopped), "stopped");
  EXPECT_EQ(ResultStatus(ExitCode::kInterrupted), "stopped");
  EXPECT_EQ(ResultStatus(ExitCode::kDiverged), "diverged");
  EXPECT_EQ(ResultStatus(ExitCode::kRankFailed), "failed");
  EXPECT_EQ(ResultStatus(ExitCode::kSetUp), "failed");
}

TEST(CheckResult, NamesTheKeyThatIsMissingOrOfAnotherType) {
  const Value result = Sample();
  for (const auto& [key, value] : *result.if_map()) {
    Value::Map without = *result.if_map();
    without.erase(key);
    EXPECT_THAT(Message(CheckResult(Value(without))), HasSubstr(key));
    Value other = result;
    other.Set(key, true);
    EXPECT_THAT(Message(CheckResult(other)), HasSubstr(key));
  }
  Value negative = result;
  negative.Set("steps", -1);
  EXPECT_THAT(Message(CheckResult(negative)), HasSubstr("steps: found -1, expected an integer of at least 0"));
  Value both = result;
  both.Set("exit_code", 5);
  EXPECT_THAT(Message(CheckResult(both)), HasSubstr("fits status done"));
  Value half = result;
  half.Set("checkpoints", Value::Map{{"last", Value()}});
  EXPECT_THAT(Message(CheckResult(half)), HasSubstr("checkpoints.best is missing"));
}

TEST(WriteResult, ReadsBackEqual) {
  SimStorage storage;
  ASSERT_TRUE(storage.CreateDirectories("run").ok());
  Value result = Sample();
  result.Set("metrics.valid_loss", Value());  // NaN
  result.Set("finished_at", 1767225600.125);
  ASSERT_TRUE(WriteResult(storage, kPath, result).ok());
  const auto read = ReadResult(storage, kPath);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, result);
  EXPECT_EQ(*storage.List("run"), std::vector<std::string>{"result.json"});
}

TEST(WriteResult, RefusesWhatBreaksTheContract) {
  SimStorage storage;
  ASSERT_TRUE(storage.CreateDirectories("run").ok());
  EXPECT_EQ(WriteResult(storage, kPath, Value(Value::Map())).code(), StatusCode::kInvalidArgument);
  Value latin = Sample();
  latin.Set("parameter_hash", "\xe9");  // not UTF-8: could never be read again
  EXPECT_EQ(WriteResult(storage, kPath, latin).code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(*storage.Exists(kPath));
}

TEST(ReadResult, SaysWhatIsWrong) {
  SimStorage storage;
  ASSERT_TRUE(storage.CreateDirectories("run").ok());
  EXPECT_EQ(ReadResult(storage, kPath).status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(WriteResult(storage, kPath, Sample()).ok());
  const std::string text = TextOf(storage, kPath);
  for (size_t bytes = 0; bytes + 1 < text.size(); ++bytes) {  // without its last byte, the newline, it is still whole
    PutText(storage, kPath, text.substr(0, bytes));
    const auto read = ReadResult(storage, kPath);
    ASSERT_EQ(read.status().code(), StatusCode::kDataLoss) << bytes;
    ASSERT_THAT(Message(read.status()), HasSubstr("read run/result.json: ")) << bytes;
  }
}

TEST(WriteResult, APowerCutLeavesTheOldOrTheNewOne) {
  Value old_result = Sample();
  old_result.Set("steps", 1);
  int old_seen = 0, new_seen = 0;
  for (int64_t operation = 0; operation < 10; ++operation) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      SimStorage storage;
      ASSERT_TRUE(storage.CreateDirectories("run").ok());
      PutText(storage, kPath, old_result.ToJson());
      storage.CrashAt(storage.operations() + operation);
      const Status status = WriteResult(storage, kPath, Sample());
      storage.PowerCut(seed);
      const auto read = ReadResult(storage, kPath);
      ASSERT_TRUE(read.ok()) << operation << " " << seed << ": " << read.status();
      if (status.ok()) {
        ASSERT_EQ(*read, Sample()) << "reported as written, but gone";
      }
      ASSERT_TRUE(*read == old_result || *read == Sample());
      ++(*read == old_result ? old_seen : new_seen);
    }
  }
  EXPECT_GT(old_seen, 0);
  EXPECT_GT(new_seen, 0);
}

}  // namespace
}  // namespace dtrain
