// Goal: whenever the power fails, or the process is killed and the power fails in the next one, the newest complete
// checkpoint loads, bit for bit the one from before or the new one; a save that returned OK is never lost; and nothing torn is
// ever listed. Method: the simulated disk, cut at every operation of a first save, a save with retention and a save of the same
// step, over several seeds. That each sync is needed is shown by leaving it out: then some cut must do damage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <set>
#include <string>

#include "base/log.h"
#include "tests/sim/hooked_storage.h"
#include "tests/sim/sim_storage.h"
#include "tests/trainer/checkpoint/sample_checkpoint.h"

namespace dtrain {
namespace {

constexpr const char* kRun = "jobs/runs/a";
const RetentionPolicy kPolicy = {.keep_last = 2};

struct Saving {
  Step step;
  int64_t variant = 0;
};

// What is wrong with what is on the disk, if the newest checkpoint must be one of `allowed`; empty if nothing is.
std::string Fault(const Storage& disk, const std::set<std::string>& allowed) {
  CheckpointStore store(const_cast<Storage&>(disk), kRun, kPolicy);
  const auto newest = store.LoadNewest();
  if (!newest.ok()) return Message(newest.status());
  const std::string found = newest->has_value() ? Describe(**newest) : "none";
  if (!allowed.contains(found)) return Cat("the newest is ", found.substr(0, found.find('\n')));
  const auto all = store.List();
  if (!all.ok()) return Message(all.status());
  for (const CheckpointInfo& info : *all) {
    if (!info.complete()) return Cat(info.path, " is torn: ", info.damage);
  }
  return "";
}

// Saves `before` on a good disk, then `last` with the power failing instead of its operation number `cut` (all of it done if
// there is no such operation), and brings the power back. The fault found, or empty; nothing once `cut` is past the end.
std::optional<std::string> CutDuring(const std::vector<Saving>& before, const Saving& last, int64_t cut, uint64_t seed,
                                     const HookedStorage::Hook& hook) {
  SimStorage disk;
  HookedStorage hooked(disk, hook);
  std::string old = "none";
  {
    CheckpointStore store(hooked, kRun, kPolicy);
    for (const Saving& saving : before) {
      const Checkpoint checkpoint = SampleCheckpoint(saving.step, saving.variant);
      if (Status status = store.Save(checkpoint); !status.ok()) return Cat("setting up: ", Message(status));
      old = Describe(checkpoint);
    }
  }
  const int64_t begin = disk.operations();
  disk.CrashAt(begin + cut);
  const std::string last_text = Describe(SampleCheckpoint(last.step, last.variant));
  CheckpointStore store(hooked, kRun, kPolicy);
  const Status saved = store.Save(SampleCheckpoint(last.step, last.variant));
  const bool past_the_end = disk.operations() - begin <= cut;
  disk.PowerCut(seed);
  std::string fault = Fault(disk, saved.ok() ? std::set{last_text} : std::set{old, last_text});
  if (!fault.empty()) return Cat("cut at operation ", cut, ", seed ", seed, ": ", fault);
  // The run goes on as if nothing had been.
  CheckpointStore next(hooked, kRun, kPolicy);
  const Checkpoint after = SampleCheckpoint(last.step + 1);
  if (Status status = next.Save(after); !status.ok()) return Cat("cut at operation ", cut, ": the save after it: ", Message(status));
  disk.PowerCut(seed + 1);
  fault = Fault(disk, {Describe(after)});
  if (!fault.empty()) return Cat("cut at operation ", cut, ", after the next save: ", fault);
  return past_the_end ? std::nullopt : std::optional<std::string>("");
}

bool Everything(StorageOperation, const std::string&) { return true; }

// The first fault over all cuts and seeds; empty if there is none.
std::string CutEverywhere(const std::vector<Saving>& before, const Saving& last, int seeds, const HookedStorage::Hook& hook = Everything) {
  for (int seed = 0; seed < seeds; ++seed) {
    for (int64_t cut = 0;; ++cut) {
      const auto fault = CutDuring(before, last, cut, 1000 * static_cast<uint64_t>(seed), hook);
      if (!fault) {
        EXPECT_GT(cut, 15);  // else nothing was cut
        break;
      }
      if (!fault->empty()) return *fault;
    }
  }
  return "";
}

class PowerCutTest : public ::testing::Test {
 protected:
  PowerCutTest() {
    SetLogSink([](LogLevel, std::string_view) {});
  }
};

TEST_F(PowerCutTest, DuringTheFirstSaveLeavesNoneOrIt) { EXPECT_EQ(CutEverywhere({}, {1}, 20), ""); }

TEST_F(PowerCutTest, DuringTheSecondSaveLeavesTheFirstOrTheSecond) { EXPECT_EQ(CutEverywhere({{1}}, {2}, 20), ""); }

TEST_F(PowerCutTest, DuringASaveThatRemovesAnOldOneLeavesTheOneBeforeOrIt) { EXPECT_EQ(CutEverywhere({{1}, {2}}, {3}, 20), ""); }

TEST_F(PowerCutTest, DuringASaveOfTheSameStepLeavesTheOldOrTheNewContents) { EXPECT_EQ(CutEverywhere({{1}, {2}}, {2, 1}, 20), ""); }

struct Killed {};

// The first process is killed (its changes stay, synced or not), the second one runs into a power cut.
TEST_F(PowerCutTest, InTheProcessAfterOneThatWasKilledLosesNothingEither) {
  const std::string one_before = Describe(SampleCheckpoint(2)), killed_in = Describe(SampleCheckpoint(3)),
                    second = Describe(SampleCheckpoint(4));
  for (int kill_at = 0;; ++kill_at) {
    bool was_killed = false;
    for (int64_t cut = 0;; ++cut) {
      SimStorage disk;
      CheckpointStore store(disk, kRun, kPolicy);
      for (const Step step : {1, 2}) ASSERT_TRUE(store.Save(SampleCheckpoint(step)).ok());
      int operation = 0;
      HookedStorage killer(disk, [&](StorageOperation, const std::string&) {
        if (operation++ == kill_at) throw Killed{};
        return true;
      });
      was_killed = false;
      try {
        ASSERT_TRUE(CheckpointStore(killer, kRun, kPolicy).Save(SampleCheckpoint(3)).ok());
      } catch (const Killed&) {
        was_killed = true;
      }
      const int64_t begin = disk.operations();
      disk.CrashAt(begin + cut);
      const Status saved = CheckpointStore(disk, kRun, kPolicy).Save(SampleCheckpoint(4));
      const bool past_the_end = disk.operations() - begin <= cut;
      disk.PowerCut(static_cast<uint64_t>(kill_at) * 1000 + static_cast<uint64_t>(cut));
      const std::string fault = Fault(disk, saved.ok() ? std::set{second} : std::set{one_before, killed_in, second});
      ASSERT_EQ(fault, "") << "killed at operation " << kill_at << ", power cut at operation " << cut << " of the next process";
      if (past_the_end) break;
    }
    if (!was_killed) {
      EXPECT_GT(kill_at, 20);
      break;
    }
  }
}

struct Sync {
  const char* what;
  StorageOperation operation;
  const char* path_end;
};

class LeftOutSync : public PowerCutTest, public ::testing::WithParamInterface<Sync> {};

TEST_P(LeftOutSync, IsNoticed) {
  const auto hook = [](StorageOperation operation, const std::string& path) {
    return operation != GetParam().operation || !path.ends_with(GetParam().path_end);
  };
  std::string fault = CutEverywhere({}, {1}, 20, hook);
  if (fault.empty()) fault = CutEverywhere({{1}, {2}}, {3}, 20, hook);
  EXPECT_NE(fault, "") << "without syncing " << GetParam().what << " nothing was ever lost";
}

INSTANTIATE_TEST_SUITE_P(Each, LeftOutSync,
                         ::testing::Values(Sync{"the model", StorageOperation::kSyncFile, "model.safetensors"},
                                           Sync{"the optimizer", StorageOperation::kSyncFile, "optimizer.safetensors"},
                                           Sync{"the state", StorageOperation::kSyncFile, "state.json"},
                                           Sync{"the manifest", StorageOperation::kSyncFile, "manifest.json"},
                                           Sync{"the entries of the new checkpoint", StorageOperation::kSyncDirectory, ".tmp"},
                                           Sync{"the names of the checkpoints", StorageOperation::kSyncDirectory, "/checkpoints"},
                                           Sync{"the run directory's entries", StorageOperation::kSyncDirectory, "runs/a"},
                                           Sync{"the runs' entries", StorageOperation::kSyncDirectory, "jobs/runs"},
                                           Sync{"the folder above", StorageOperation::kSyncDirectory, "jobs"}));

}  // namespace
}  // namespace dtrain
