// Goal: training goes on while a checkpoint is written, memory stays bounded, an error surfaces exactly once and nothing
// submitted is lost. Method: a disk whose operations wait until the test lets them go.
#include "trainer/checkpoint/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>

#include "base/log.h"
#include "tests/sim/hooked_storage.h"
#include "tests/sim/sim_storage.h"
#include "tests/trainer/checkpoint/sample_checkpoint.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

Deadline Soon() { return Deadline::In(std::chrono::seconds(30)); }
Deadline InMs(int ms) { return Deadline::In(std::chrono::milliseconds(ms)); }

class CheckpointWriterTest : public ::testing::Test {
 protected:
  ~CheckpointWriterTest() override {
    SetLogSink([](LogLevel, std::string_view) {});
  }

  // The writer's thread stops at its next operation on the disk, until Release.
  void Hold() {
    const std::lock_guard lock(mutex_);
    held_ = true;
  }
  void Release() {
    {
      const std::lock_guard lock(mutex_);
      held_ = false;
    }
    changed_.notify_all();
  }
  // Until the writer's thread stands still.
  void WaitUntilHeld() {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(30), [this] { return waiting_; }));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false, waiting_ = false;
  SimStorage disk_;
  HookedStorage slow_{disk_, [this](StorageOperation, const std::string&) {
                        std::unique_lock lock(mutex_);
                        waiting_ = held_;
                        changed_.notify_all();
                        changed_.wait(lock, [this] { return !held_; });
                        waiting_ = false;
                        return true;
                      }};
  CheckpointStore store_{slow_, "run", {.keep_last = 10}};
};

TEST_F(CheckpointWriterTest, SubmitReturnsWhileTheDiskIsStillWriting) {
  CheckpointWriter writer(store_);
  Hold();
  ASSERT_TRUE(writer.Submit(SampleCheckpoint(1), Soon()).ok());
  WaitUntilHeld();
  EXPECT_TRUE(writer.Poll().ok());
  EXPECT_EQ(writer.statistics().saved, 0);
  Release();
  ASSERT_TRUE(writer.Drain(Soon()).ok());
  EXPECT_EQ(Describe(**store_.LoadNewest()), Describe(SampleCheckpoint(1)));
  const CheckpointWriterStatistics statistics = writer.statistics();
  EXPECT_EQ(statistics.saved, 1);
  EXPECT_EQ(statistics.failed, 0);
  EXPECT_GT(statistics.bytes, 0);
  EXPECT_GT(statistics.write_s, 0);
}

TEST_F(CheckpointWriterTest, OneIsWrittenOneWaitsAndAThirdPausesTheCaller) {
  CheckpointWriter writer(store_);
  Hold();
  ASSERT_TRUE(writer.Submit(SampleCheckpoint(1), Soon()).ok());
  WaitUntilHeld();  // 1 is being written
  ASSERT_TRUE(writer.Submit(SampleCheckpoint(2), InMs(0)).ok());
  const Status status = writer.Submit(SampleCheckpoint(3), InMs(30));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Message(status), HasSubstr("save the checkpoint of step 3: the one before is still being written"));
  EXPECT_THAT(Message(status), HasSubstr("Hint: save less often"));
  EXPECT_GE(writer.statistics().pause_s, 0.03);
  EXPECT_EQ(writer.Drain(InMs(10)).code(), StatusCode::kDeadlineExceeded);
  Release();
  ASSERT_TRUE(writer.Submit(SampleCheckpoint(4), Soon()).ok());
  ASSERT_TRUE(writer.Drain(Soon()).ok());
  std::vector<Step> steps;
  const auto infos = store_.List();
  for (const auto& info : *infos) steps.push_back(info.step);
  EXPECT_THAT(steps, ::testing::ElementsAre(1, 2, 4));  // 3 was not taken
}

TEST_F(CheckpointWriterTest, ErrorOfASaveComesBackOnceAndTheNextSaveWorks) {
  for (const std::string way : {"Poll", "Submit", "Drain"}) {
    SimStorage disk;
    CheckpointStore store(disk, "run", {});
    CheckpointWriter writer(store);
    disk.SetCapacity(100);
    ASSERT_TRUE(writer.Submit(SampleCheckpoint(1), Soon()).ok());
    Status status;
    if (way == "Drain") {
      status = writer.Drain(Soon());
    } else {
      const Deadline deadline = Soon();
      while (writer.statistics().failed == 0 && !deadline.Passed()) std::this_thread::yield();
      status = way == "Poll" ? writer.Poll() : writer.Submit(SampleCheckpoint(2), Soon());
    }
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << way;
    EXPECT_THAT(Message(status), HasSubstr("save run/checkpoints/step-000001"));
    EXPECT_TRUE(writer.Poll().ok()) << way << ": told twice";
    disk.SetCapacity(INT64_MAX);
    ASSERT_TRUE(writer.Submit(SampleCheckpoint(3), Soon()).ok());
    ASSERT_TRUE(writer.Drain(Soon()).ok());
    EXPECT_EQ((*store.LoadNewest())->step, 3);
    EXPECT_EQ(writer.statistics().failed, 1);
    EXPECT_EQ(writer.statistics().saved, 1);
  }
}

TEST_F(CheckpointWriterTest, WhatWasSubmittedIsWrittenBeforeTheWriterGoes) {
  {
    CheckpointWriter writer(store_);
    for (const Step step : {1, 2}) ASSERT_TRUE(writer.Submit(SampleCheckpoint(step), Soon()).ok());
  }
  EXPECT_EQ((*store_.LoadNewest())->step, 2);
}

TEST_F(CheckpointWriterTest, ErrorThatNobodyCollectedIsLogged) {
  std::string log;
  SetLogSink([&](LogLevel level, std::string_view message) {
    if (level == LogLevel::kError) log += message;
  });
  disk_.SetCapacity(100);
  {
    CheckpointWriter writer(store_);
    ASSERT_TRUE(writer.Submit(SampleCheckpoint(1), Soon()).ok());
  }
  EXPECT_THAT(log, HasSubstr("save run/checkpoints/step-000001"));
}

TEST_F(CheckpointWriterTest, WriterThatWasNeverUsedEndsAtOnce) { CheckpointWriter writer(store_); }

}  // namespace
}  // namespace dtrain
