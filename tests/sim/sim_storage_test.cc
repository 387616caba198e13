// Goal: the simulated disk forgets what it may forget, and never what it must keep; else the crash tests that stand on it
// prove nothing. Method: the smallest sequence of calls for each promise, over many seeds, collecting the outcomes.
#include "tests/sim/sim_storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/check.h"
#include "tests/sim/hooked_storage.h"
#include "tests/sim/manual_clock.h"

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSubsetOf;

constexpr uint64_t kSeeds = 64;

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string Text(const SimStorage& disk, const std::string& path) {
  std::string text;
  for (const std::byte byte : disk.Contents(path)) text += static_cast<char>(byte);
  return text;
}

void Require(const Status& status) { ASSERT_TRUE(status.ok()) << status; }

// Runs `write` on a fresh disk, cuts the power, and collects what `look` sees, over the seeds.
template <typename Write, typename Look>
std::set<std::string> Outcomes(const Write& write, const Look& look) {
  std::set<std::string> outcomes;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SimStorage disk;
    write(disk);
    disk.PowerCut(seed);
    outcomes.insert(look(disk));
  }
  return outcomes;
}

std::string Names(const SimStorage& disk) {
  const auto names = disk.List("d");
  return names.ok() ? Join(*names, " ") : "no directory";
}

// Directory d with file f, its entry durable, holding "ab", of which `synced` says whether it is.
std::unique_ptr<WritableFile> MakeFile(SimStorage& disk, bool synced) {
  Require(disk.CreateDirectories("d"));
  Require(disk.SyncDirectory("."));
  auto file = disk.Create("d/f");
  DTRAIN_CHECK(file.ok());
  Require((*file)->Append(Bytes("ab")));
  if (synced) Require((*file)->Sync());
  Require(disk.SyncDirectory("d"));
  return *std::move(file);
}

TEST(SimStorage, UnsyncedDataSurvivesAsAnyPrefixOrAsZeros) {
  const auto outcomes = Outcomes([](SimStorage& disk) { MakeFile(disk, false); }, [](const SimStorage& disk) { return Text(disk, "d/f"); });
  EXPECT_THAT(outcomes, ElementsAre(std::string(), std::string(1, '\0'), std::string(2, '\0'), "a", "ab"));
}

TEST(SimStorage, SyncedDataIsNeverLostAndWhatFollowsItIs) {
  const auto outcomes = Outcomes(
      [](SimStorage& disk) {
        const auto file = MakeFile(disk, true);
        Require(file->Append(Bytes("c")));
      },
      [](const SimStorage& disk) { return Text(disk, "d/f"); });
  EXPECT_THAT(outcomes, ElementsAre("ab", std::string("ab\0", 3), "abc"));
}

TEST(SimStorage, TruncatedFileMayHoldOldOrNewContentsUntilItIsSynced) {
  const auto outcomes = Outcomes(
      [](SimStorage& disk) {
        MakeFile(disk, true);
        const auto file = disk.Create("d/f");
        Require((*file)->Append(Bytes("x")));
      },
      [](const SimStorage& disk) { return Text(disk, "d/f"); });
  EXPECT_THAT(outcomes, ElementsAre(std::string(), std::string(1, '\0'), "ab", "x"));
}

TEST(SimStorage, EntriesOfAnUnsyncedDirectorySurviveEachForItself) {
  const auto outcomes = Outcomes(
      [](SimStorage& disk) {
        MakeFile(disk, true);
        Require(disk.Create("d/g").status());
        Require(disk.Rename("d/f", "d/h"));
      },
      Names);
  EXPECT_THAT(outcomes, ElementsAre("f", "f g", "g h", "h"));
}

TEST(SimStorage, EntriesOfASyncedDirectoryAreNeverLost) {
  const auto outcomes = Outcomes(
      [](SimStorage& disk) {
        MakeFile(disk, true);
        Require(disk.Create("d/g").status());
        Require(disk.Rename("d/f", "d/h"));
        Require(disk.RemoveAll("d/g"));
        Require(disk.SyncDirectory("d"));
      },
      Names);
  EXPECT_THAT(outcomes, ElementsAre("h"));
}

TEST(SimStorage, DirectoryWhoseParentIsNotSyncedMayBeGoneWithAllThatIsInIt) {
  const auto outcomes = Outcomes(
      [](SimStorage& disk) {
        Require(disk.CreateDirectories("d"));
        Require(disk.Create("d/f").status());
        Require(disk.SyncDirectory("d"));
      },
      Names);
  EXPECT_THAT(outcomes, ElementsAre("f", "no directory"));
}

TEST(SimStorage, RemovalOfAFolderMayLeaveAnyPartOfIt) {
  const auto outcomes = Outcomes(
      [](SimStorage& disk) {
        MakeFile(disk, true);
        Require(disk.Create("d/g").status());
        Require(disk.SyncDirectory("d"));
        Require(disk.RemoveAll("d"));
      },
      Names);
  EXPECT_THAT(outcomes, ElementsAre("", "f", "f g", "g", "no directory"));
}

TEST(SimStorage, AfterACrashEveryCallFailsUntilThePowerIsBack) {
  SimStorage disk;
  const auto file = MakeFile(disk, true);
  disk.CrashAt(disk.operations());
  EXPECT_EQ(file->Append(Bytes("c")).code(), StatusCode::kUnavailable);
  EXPECT_EQ(disk.RemoveAll("d").code(), StatusCode::kUnavailable);
  EXPECT_EQ(disk.Exists("d").status().code(), StatusCode::kUnavailable);
  disk.PowerCut(1);
  EXPECT_EQ(Text(disk, "d/f").substr(0, 2), "ab");
  EXPECT_EQ(file->Append(Bytes("c")).code(), StatusCode::kFailedPrecondition);
}

TEST(SimStorage, ChosenOperationFailsOnceAndFullDiskKeepsWhatFits) {
  SimStorage disk;
  const auto file = MakeFile(disk, true);
  disk.FailAt(disk.operations(), Unavailable("injected"));
  EXPECT_EQ(file->Sync().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(file->Sync().ok());
  disk.SetCapacity(4);
  EXPECT_EQ(file->Append(Bytes("cde")).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(Text(disk, "d/f"), "abcd");
}

TEST(SimStorage, CutReadsEndWhereTheyWereCut) {
  SimStorage disk;
  MakeFile(disk, true);
  const auto file = disk.Open("d/f");
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<std::byte> bytes(2);
  EXPECT_TRUE((*file)->ReadAt(0, bytes).ok());
  disk.CutReadsAt(1);
  EXPECT_EQ((*file)->ReadAt(0, bytes).code(), StatusCode::kOutOfRange);
}

TEST(HookedStorage, OperationThatTheHookRefusesIsLeftOutAndReportedAsDone) {
  SimStorage disk;
  Require(disk.CreateDirectories("d"));
  std::vector<std::string> seen;
  HookedStorage hooked(disk, [&](StorageOperation operation, const std::string& path) {
    seen.push_back(path);
    return operation != StorageOperation::kRename;
  });
  const auto file = hooked.Create("d/f");
  Require((*file)->Append(Bytes("ab")));
  Require((*file)->Sync());
  Require(hooked.Rename("d/f", "d/g"));
  EXPECT_EQ(Names(disk), "f");
  EXPECT_THAT(seen, ElementsAre("d/f", "d/f", "d/f", "d/g"));
}

TEST(ManualClock, StandsStillUntilItIsAdvanced) {
  ManualClock clock;
  const Deadline deadline = Deadline::In(std::chrono::seconds(2), clock);
  clock.Advance(std::chrono::milliseconds(1999));
  EXPECT_FALSE(deadline.Passed(clock));
  clock.Advance(std::chrono::milliseconds(1));
  EXPECT_TRUE(deadline.Passed(clock));
  EXPECT_DOUBLE_EQ(clock.WallSeconds(), 1'767'225'602);
}

}  // namespace
}  // namespace dtrain
