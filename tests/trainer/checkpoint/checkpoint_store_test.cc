// Goal: what was saved loads bit for bit; what is damaged in any way is refused, named, and passed over for the one before;
// retention keeps what the policy says; a full or failing disk costs no checkpoint. Method: every byte of a small
// checkpoint flipped and every length cut, every operation failed, every size of disk, on the simulated disk.
#include "trainer/checkpoint/checkpoint_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <string>

#include "base/crc32c.h"
#include "base/log.h"
#include "tests/sim/sim_storage.h"
#include "tests/trainer/checkpoint/sample_checkpoint.h"
#include "trainer/checkpoint/manifest.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kRun = "runs/a";
constexpr const char* kFiles[] = {"manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"};

class CheckpointStoreTest : public ::testing::Test {
 protected:
  CheckpointStoreTest() {
    SetLogSink([this](LogLevel, std::string_view message) { log_ += Cat(message, "\n"); });
  }
  ~CheckpointStoreTest() override {
    SetLogSink([](LogLevel, std::string_view) {});
  }

  static std::string PathOf(Step step, const std::string& file = "") {
    return Cat(kRun, "/checkpoints/", CheckpointName(step), file.empty() ? "" : "/", file);
  }
  void Save(Step step) {
    const Status status = store_.Save(SampleCheckpoint(step));
    ASSERT_TRUE(status.ok()) << status;
  }
  // The newest that loads, checked bit for bit; -1 if there is none.
  Step Newest() {
    const auto newest = store_.LoadNewest();
    EXPECT_TRUE(newest.ok()) << newest.status();
    if (!newest.ok() || !newest->has_value()) return -1;
    EXPECT_EQ(Describe(**newest), Describe(SampleCheckpoint((*newest)->step)));
    return (*newest)->step;
  }
  std::vector<Step> Steps(const CheckpointStore& store) {
    std::vector<Step> steps;
    const auto infos = store.List();
    EXPECT_TRUE(infos.ok()) << infos.status();
    if (!infos.ok()) return steps;
    for (const auto& info : *infos) {
      EXPECT_TRUE(info.complete()) << info.damage;
      steps.push_back(info.step);
    }
    return steps;
  }
  void Damage(const std::string& path, std::vector<std::byte> bytes) { disk_.SetContents(path, std::move(bytes)); }

  SimStorage disk_;
  CheckpointStore store_{disk_, kRun, {.keep_last = 2}};
  std::string log_;
};

TEST_F(CheckpointStoreTest, SavedCheckpointLoadsBitForBitWithTheDocumentedFiles) {
  Save(500);
  EXPECT_EQ(Newest(), 500);
  EXPECT_THAT(*disk_.List(kRun), ElementsAre("LATEST", "checkpoints"));
  EXPECT_THAT(*disk_.List(PathOf(500)), ElementsAre("manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"));
  const auto latest = disk_.Contents("runs/a/LATEST");
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(latest.data()), latest.size()), "checkpoints/step-000500\n");
  const auto from_path = store_.LoadPath(PathOf(500));
  ASSERT_TRUE(from_path.ok()) << from_path.status();
  EXPECT_EQ(Describe(*from_path), Describe(SampleCheckpoint(500)));
  EXPECT_THAT(log_, IsEmpty());
}

TEST_F(CheckpointStoreTest, StepBeyondSixDigitsSortsAfterSmallerOnes) {
  Save(999'999);
  Save(1'000'000);
  EXPECT_EQ(CheckpointName(1'000'000), "step-1000000");
  EXPECT_THAT(Steps(store_), ElementsAre(999'999, 1'000'000));
  EXPECT_EQ(Newest(), 1'000'000);
}

TEST_F(CheckpointStoreTest, RunWithoutCheckpointsHasNoneToLoad) {
  EXPECT_EQ(Newest(), -1);
  EXPECT_THAT(Steps(store_), IsEmpty());
  const auto status = store_.Load(5).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(status), HasSubstr("load runs/a/checkpoints/step-000005: there is no such checkpoint"));
}

TEST_F(CheckpointStoreTest, FlippedByteAnywhereIsRefusedAndTheOneBeforeLoads) {
  Save(1);
  Save(2);
  for (const char* file : kFiles) {
    const auto good = disk_.Contents(PathOf(2, file));
    for (size_t i = 0; i < good.size(); ++i) {
      for (const unsigned flip : {0xffu, 1u << i % 8, 0x20u}) {
        auto bad = good;
        bad[i] ^= static_cast<std::byte>(flip);
        Damage(PathOf(2, file), bad);
        ASSERT_EQ(store_.Load(2).status().code(), StatusCode::kDataLoss) << file << " byte " << i << " flip " << flip;
        ASSERT_EQ(Newest(), 1) << file << " byte " << i;
      }
    }
    Damage(PathOf(2, file), good);
  }
  EXPECT_EQ(Newest(), 2);
}

TEST_F(CheckpointStoreTest, FileOfAnyOtherLengthIsRefusedAndTheOneBeforeLoads) {
  Save(1);
  Save(2);
  for (const char* file : kFiles) {
    const auto good = disk_.Contents(PathOf(2, file));
    for (size_t bytes = 0; bytes <= good.size() + 1; ++bytes) {
      if (bytes == good.size()) continue;
      auto bad = good;
      bad.resize(bytes, good.back());
      Damage(PathOf(2, file), bad);
      ASSERT_EQ(store_.Load(2).status().code(), StatusCode::kDataLoss) << file << " cut to " << bytes;
      ASSERT_EQ(Newest(), 1) << file << " cut to " << bytes;
    }
    Damage(PathOf(2, file), good);
  }
}

TEST_F(CheckpointStoreTest, MissingFileIsNamed) {
  for (const std::string file : kFiles) {
    SimStorage disk;
    CheckpointStore store(disk, kRun, {});
    ASSERT_TRUE(store.Save(SampleCheckpoint(1)).ok());
    ASSERT_TRUE(disk.RemoveAll(PathOf(1, file)).ok());
    const auto status = store.Load(1).status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss);
    EXPECT_THAT(Message(status),
                HasSubstr(file == "manifest.json" ? "it has no manifest.json, so it was never complete" : file + " is missing"));
  }
}

TEST_F(CheckpointStoreTest, ShortFileIsReportedWithWhatWasFoundAndWhereToGoOn) {
  Save(400);
  Save(500);
  auto bytes = disk_.Contents(PathOf(500, "model.safetensors"));
  const size_t whole = bytes.size();
  bytes.resize(whole - 40);
  Damage(PathOf(500, "model.safetensors"), bytes);
  EXPECT_EQ(Message(store_.Load(500).status()),
            Cat("load runs/a/checkpoints/step-000500: model.safetensors is 40 bytes short (found ", whole - 40, ", manifest says ", whole,
                ")\n  Hint: resume from runs/a/checkpoints/step-000400, the newest complete checkpoint"));
  EXPECT_EQ(Newest(), 400);
  EXPECT_THAT(log_,
              HasSubstr("passed over a damaged checkpoint: load runs/a/checkpoints/step-000500: model.safetensors is 40 bytes short"));
  const auto infos = store_.List();
  ASSERT_EQ(infos->size(), 2u);
  EXPECT_TRUE((*infos)[0].complete());
  EXPECT_THAT((*infos)[1].damage, HasSubstr("40 bytes short"));
}

TEST_F(CheckpointStoreTest, AllCheckpointsDamagedIsAnErrorAndNotAFreshStart) {
  Save(1);
  Save(2);
  for (const Step step : {1, 2}) Damage(PathOf(step, "manifest.json"), {});
  const auto status = store_.LoadNewest().status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("none of its 2 checkpoints holds"));
  EXPECT_THAT(Message(status), HasSubstr("Hint: "));
}

TEST_F(CheckpointStoreTest, FileCutWhileItIsReadIsPassedOver) {
  Save(1);
  disk_.CutReadsAt(100);
  EXPECT_EQ(store_.LoadNewest().status().code(), StatusCode::kDataLoss);
}

TEST_F(CheckpointStoreTest, DirectoryMovedToAnotherStepIsRefused) {
  Save(1);
  ASSERT_TRUE(disk_.Rename(PathOf(1), PathOf(7)).ok());
  EXPECT_THAT(Message(store_.Load(7).status()), HasSubstr("manifest.json is of step 1, not 7"));
}

TEST_F(CheckpointStoreTest, NewerFormatIsRefusedClearlyAndNotPassedOver) {
  Save(1);
  Save(2);
  // A manifest of format 2 whose own checksum holds.
  const auto bytes = disk_.Contents(PathOf(2, "manifest.json"));
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  text.replace(text.find("\"format_version\": 1"), 19, "\"format_version\": 2");
  const std::string body = text.substr(0, text.rfind("\"crc32c\""));
  const uint32_t crc32c = Crc32c(std::as_bytes(std::span(body)));
  char seal[64];
  std::snprintf(seal, sizeof seal, "\"crc32c\": \"%08x\"}\n", crc32c);
  text = body + seal;
  const auto raw = std::as_bytes(std::span(text));
  Damage(PathOf(2, "manifest.json"), {raw.begin(), raw.end()});
  for (const Status& status : {store_.LoadNewest().status(), store_.Load(2).status()}) {
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(Message(status), HasSubstr("format version 2, this dtrain reads up to 1"));
  }
}

TEST_F(CheckpointStoreTest, NewerStateFormatIsRefusedClearly) {
  Save(1);
  const std::string state = "{\"format_version\": 2, \"step\": 1}\n";
  const auto raw = std::as_bytes(std::span(state));
  Damage(PathOf(1, "state.json"), {raw.begin(), raw.end()});
  Manifest manifest = *ReadManifest(disk_, PathOf(1));
  manifest.files["state.json"] = {.bytes = state.size(), .crc32c = Crc32c(raw)};
  const std::string sealed = EncodeManifest(manifest);
  const auto sealed_raw = std::as_bytes(std::span(sealed));
  Damage(PathOf(1, "manifest.json"), {sealed_raw.begin(), sealed_raw.end()});
  EXPECT_THAT(Message(store_.LoadNewest().status()), HasSubstr("state.json has format version 2, this dtrain reads up to 1"));
}

TEST_F(CheckpointStoreTest, RunDirectoryGivenAsCheckpointIsRecognised) {
  Save(1);
  EXPECT_THAT(Message(store_.LoadPath(kRun).status()),
              HasSubstr("this is a run directory: name one of the checkpoints in runs/a/checkpoints"));
}

TEST_F(CheckpointStoreTest, WhatCouldNotBeLoadedAgainIsNotSaved) {
  Save(1);
  Checkpoint twice = SampleCheckpoint(2);
  twice.model.push_back(twice.model[0]);
  Checkpoint reserved = SampleCheckpoint(2);
  reserved.state.Set("step", 3);
  Checkpoint not_utf8 = SampleCheckpoint(2);
  not_utf8.state.Set("name", "\xff");
  Checkpoint not_a_map = SampleCheckpoint(2);
  not_a_map.state = 3;
  Checkpoint negative = SampleCheckpoint(2);
  negative.step = -1;
  for (const auto& bad : {twice, reserved, not_utf8, not_a_map, negative}) {
    EXPECT_EQ(store_.Save(bad).code(), StatusCode::kInvalidArgument) << Describe(bad);
    EXPECT_THAT(*disk_.List("runs/a/checkpoints"), ElementsAre("step-000001"));
  }
  EXPECT_EQ(Newest(), 1);
}

TEST_F(CheckpointStoreTest, NewestStayAndOlderOnesGo) {
  for (Step step = 1; step <= 5; ++step) Save(step);
  EXPECT_THAT(Steps(store_), ElementsAre(4, 5));
  EXPECT_THAT(*disk_.List("runs/a/checkpoints"), ElementsAre("step-000004", "step-000005"));
}

TEST_F(CheckpointStoreTest, BestByMetricStayWhateverTheirAge) {
  for (const bool larger : {true, false}) {
    SimStorage disk;
    const RetentionPolicy policy = {.keep_last = 1, .keep_best = 2, .metric = "valid_loss", .metric_is_better_when_larger = larger};
    CheckpointStore store(disk, kRun, policy);
    const std::vector<double> metrics = {3, 1, 5, 1, 4, 3};
    for (size_t i = 0; i < metrics.size(); ++i) {
      Checkpoint checkpoint = SampleCheckpoint(static_cast<Step>(i) + 1);
      checkpoint.state.Set("metrics.valid_loss", metrics[i]);
      ASSERT_TRUE(store.Save(checkpoint).ok());
    }
    if (larger) {
      EXPECT_THAT(Steps(store), ElementsAre(3, 5, 6));
    } else {
      EXPECT_THAT(Steps(store), ElementsAre(2, 4, 6));
    }
    EXPECT_EQ(BestFirst(*store.List(), policy).front().step, larger ? 3 : 4);
  }
}

TEST_F(CheckpointStoreTest, CheckpointWithoutTheMetricIsNeverAmongTheBest) {
  const RetentionPolicy policy = {.keep_last = 1, .keep_best = 1, .metric = "valid_accuracy"};
  CheckpointStore store(disk_, kRun, policy);
  Checkpoint best = SampleCheckpoint(1);
  ASSERT_TRUE(store.Save(best).ok());
  for (Step step = 2; step <= 4; ++step) {
    Checkpoint other = SampleCheckpoint(step);
    other.state.Set("metrics", step == 3 ? Value(Value::Map{{"valid_accuracy", Value(std::nan(""))}}) : Value());
    ASSERT_TRUE(store.Save(other).ok());
  }
  EXPECT_THAT(Steps(store), ElementsAre(1, 4));
}

TEST_F(CheckpointStoreTest, NewestStaysEvenIfThePolicyKeepsNone) {
  CheckpointStore store(disk_, kRun, {.keep_last = 0});
  for (Step step = 1; step <= 3; ++step) ASSERT_TRUE(store.Save(SampleCheckpoint(step)).ok());
  EXPECT_THAT(Steps(store), ElementsAre(3));
}

TEST_F(CheckpointStoreTest, CheckpointJustSavedStaysEvenBehindNewerOnes) {
  Save(8);
  Save(9);
  Save(3);
  EXPECT_THAT(Steps(store_), ElementsAre(3, 8, 9));
}

TEST_F(CheckpointStoreTest, DamagedOneNeitherCountsAsKeptNorIsDeleted) {
  Save(1);
  Save(2);
  Damage(PathOf(2, "model.safetensors"), {});
  Save(3);
  EXPECT_THAT(*disk_.List("runs/a/checkpoints"), ElementsAre("step-000001", "step-000002", "step-000003"));
}

TEST_F(CheckpointStoreTest, SameStepSavedAgainReplacesTheOldContents) {
  Save(1);
  const Checkpoint other = SampleCheckpoint(1, /*variant=*/1);
  ASSERT_TRUE(store_.Save(other).ok());
  EXPECT_EQ(Describe(**store_.LoadNewest()), Describe(other));
  EXPECT_THAT(*disk_.List("runs/a/checkpoints"), ElementsAre("step-000001"));
}

TEST_F(CheckpointStoreTest, DamagedOneIsReplacedWhenItsStepIsSavedAgain) {
  Save(1);
  Damage(PathOf(1, "model.safetensors"), {});
  Save(1);
  EXPECT_EQ(Newest(), 1);
}

TEST_F(CheckpointStoreTest, LeftoversOfACrashAreClearedByTheNextSaveAndForeignFilesAreNot) {
  Save(1);
  ASSERT_TRUE(disk_.CreateDirectories("runs/a/checkpoints/step-000007.tmp").ok());
  ASSERT_TRUE(disk_.CreateDirectories("runs/a/checkpoints/notes.tmp").ok());
  EXPECT_EQ(Newest(), 1);
  Save(2);
  EXPECT_THAT(*disk_.List("runs/a/checkpoints"), ElementsAre("notes.tmp", "step-000001", "step-000002"));
}

TEST_F(CheckpointStoreTest, FullDiskIsAClearErrorThatCostsNoCheckpoint) {
  Save(1);
  Save(2);
  const auto step_bytes = static_cast<int64_t>((*store_.List())[0].bytes);
  const int64_t used = 2 * step_bytes + 1000;
  for (int64_t room = 0; room < step_bytes; room += 7) {
    disk_.SetCapacity(used + room - 1000);
    const Status status = store_.Save(SampleCheckpoint(3));
    ASSERT_EQ(status.code(), StatusCode::kResourceExhausted) << room << " " << status;
    ASSERT_THAT(Message(status), HasSubstr("save runs/a/checkpoints/step-000003: write runs/a/checkpoints/step-000003.tmp/"));
    ASSERT_THAT(Message(status), HasSubstr("Hint: make room on the disk"));
    ASSERT_THAT(Steps(store_), ElementsAre(1, 2));
    ASSERT_THAT(*disk_.List("runs/a/checkpoints"), ElementsAre("step-000001", "step-000002"));
  }
  disk_.SetCapacity(INT64_MAX);
  Save(3);
  EXPECT_EQ(Newest(), 3);
}

TEST_F(CheckpointStoreTest, FailureOfAnyOperationIsReportedAndTheNextSaveSucceeds) {
  const auto before = [](SimStorage& disk, CheckpointStore& store) {
    for (const Step step : {1, 2}) EXPECT_TRUE(store.Save(SampleCheckpoint(step)).ok());
    return disk.operations();
  };
  SimStorage counted;
  CheckpointStore counted_store(counted, kRun, {.keep_last = 1});
  const int64_t begin = before(counted, counted_store);
  ASSERT_TRUE(counted_store.Save(SampleCheckpoint(3)).ok());
  const int64_t end = counted.operations();
  ASSERT_GT(end - begin, 20);
  for (int64_t operation = begin; operation < end; ++operation) {
    SimStorage disk;
    CheckpointStore store(disk, kRun, {.keep_last = 1});
    before(disk, store);
    disk.FailAt(operation, DataLoss("injected"));
    EXPECT_EQ(store.Save(SampleCheckpoint(3)).code(), StatusCode::kDataLoss) << "operation " << operation - begin;
    const auto newest = store.LoadNewest();
    ASSERT_TRUE(newest.ok() && newest->has_value()) << newest.status();
    EXPECT_EQ(Describe(**newest), Describe(SampleCheckpoint((*newest)->step)));
    EXPECT_GE((*newest)->step, 2);
    const Status again = store.Save(SampleCheckpoint(4));
    EXPECT_TRUE(again.ok()) << again;
    EXPECT_THAT(Steps(store), ElementsAre(4)) << "operation " << operation - begin;
  }
}

}  // namespace
}  // namespace dtrain
