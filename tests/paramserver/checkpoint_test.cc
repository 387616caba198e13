// Goal: a checkpoint is whole or absent, whatever fails; re-cutting keeps every bit. Method: the power fails at every
// operation of the write order in turn; every kind of damage to a file; k to k' servers and back.
#include "paramserver/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "tests/paramserver/small_job.h"
#include "tests/sim/sim_storage.h"

namespace dtrain::ps {
namespace {

using testing::HasSubstr;

constexpr uint64_t kJob = 7;

ShardState StateOf(const Table& table, int server, Step step, int slots = 2) {
  const FlatLayout layout = table.layout();
  const Sharding sharding = PlanSharding(table, layout);
  const ElementRange range = sharding.of_server[static_cast<size_t>(server)];
  ShardState state{.table = table, .server = server, .version = step, .updates = step - 1};
  const auto [first, end] = sharding.chunks_of(server);
  state.chunk_versions.assign(static_cast<size_t>(end - first), step);
  const auto numbers = [&](int which) {
    std::vector<float> values;
    for (int64_t i = range.begin; i < range.end; ++i) values.push_back(static_cast<float>(i * 7 + which * 1'000 + step));
    return values;
  };
  state.parameters = numbers(0);
  for (int slot = 0; slot < slots; ++slot) state.slots.push_back(numbers(slot + 1));
  state.work = WorkLog(end - first);
  return state;
}

Status Save(std::vector<SimStorage*> disks, SimStorage& coordinator, const Table& table, Step step) {
  Manifest manifest{.job = kJob, .step = step, .view = 3, .cursor = "epoch 1"};
  for (int server = 0; server < table.servers; ++server) {
    ASSIGN_OR_RETURN(const PartInfo info, WritePart(*disks[static_cast<size_t>(server)], "runs/a", kJob, StateOf(table, server, step)));
    manifest.parts.push_back(info);
  }
  RETURN_IF_ERROR(WriteManifest(coordinator, "runs/a", manifest));
  for (SimStorage* disk : disks) RETURN_IF_ERROR(RemoveBefore(*disk, "runs/a", step));
  return RemoveBefore(coordinator, "runs/a", step);
}

TEST(PsCheckpoint, WhateverFailsTheNewestManifestsPartsAreAllThere) {
  SetLogSink([](LogLevel, std::string_view) {});
  const Table table = SmallTable(3, 2);
  // Which of the three disks fails, at which of its operations; then all lose what was not synced.
  for (int victim = 0; victim < 3; ++victim) {
    for (int64_t operation = 0; operation < 40; ++operation) {
      SimStorage disks[3];
      ASSERT_TRUE(Save({&disks[0], &disks[1]}, disks[2], table, 10).ok());
      disks[victim].CrashAt(disks[victim].operations() + operation);
      const bool done = Save({&disks[0], &disks[1]}, disks[2], table, 20).ok();
      for (SimStorage& disk : disks) {
        disk.PowerCut(static_cast<uint64_t>(operation));
        disk.CrashAt(INT64_MAX);
      }
      const auto manifest = NewestManifest(disks[2], "runs/a", kJob);
      ASSERT_TRUE(manifest.ok() && manifest->has_value()) << victim << " at " << operation;
      if (done) {
        EXPECT_EQ((*manifest)->step, 20);
      }
      EXPECT_EQ((*manifest)->cursor, "epoch 1");
      for (int server = 0; server < 2; ++server) {
        const auto state = ReadPart(disks[server], "runs/a", kJob, (*manifest)->step, (*manifest)->parts[static_cast<size_t>(server)]);
        ASSERT_TRUE(state.ok()) << victim << " at " << operation << ": " << state.status().message();
        EXPECT_EQ(state->parameters, StateOf(table, server, (*manifest)->step).parameters);
        EXPECT_EQ(state->slots, StateOf(table, server, (*manifest)->step).slots);
        EXPECT_EQ(state->updates, (*manifest)->step - 1);
      }
    }
  }
  SetLogSink(nullptr);
}

TEST(PsCheckpoint, DamageOfAnyByteIsNoticed) {
  SetLogSink([](LogLevel, std::string_view) {});
  SimStorage storage;
  const Table table = SmallTable(1, 1);
  const PartInfo info = *WritePart(storage, "a", kJob, StateOf(table, 0, 4));
  ASSERT_TRUE(WriteManifest(storage, "a", {.job = kJob, .step = 4, .parts = {info}}).ok());
  for (const std::string file : {"a/part-0-4", "a/manifest-4"}) {
    const auto whole = storage.Contents(file);
    const auto read = [&] {
      const auto manifest = NewestManifest(storage, "a", kJob);
      if (!manifest.ok()) return manifest.status();
      if (!manifest->has_value()) return NotFound("none");
      return ReadPart(storage, "a", kJob, 4, (*manifest)->parts[0]).status();
    };
    ASSERT_TRUE(read().ok());
    for (size_t at = 0; at < whole.size(); ++at) {
      auto damaged = whole;
      damaged[at] ^= std::byte{16};
      storage.SetContents(file, damaged);
      ASSERT_FALSE(read().ok()) << file << " at " << at;
      storage.SetContents(file, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at)});
      ASSERT_FALSE(read().ok()) << file << " cut to " << at;
    }
    storage.SetContents(file, whole);
  }
  // A damaged one is passed over for an older one.
  const PartInfo newer = *WritePart(storage, "a", kJob, StateOf(table, 0, 9));
  ASSERT_TRUE(WriteManifest(storage, "a", {.job = kJob, .step = 9, .parts = {newer}}).ok());
  EXPECT_EQ((*NewestManifest(storage, "a", kJob))->step, 9);
  storage.SetContents("a/manifest-9", {});
  EXPECT_EQ((*NewestManifest(storage, "a", kJob))->step, 4);
  SetLogSink(nullptr);
}

TEST(PsCheckpoint, AnotherJobsIsRefusedAndNoneIsNone) {
  SimStorage storage;
  EXPECT_FALSE(NewestManifest(storage, "a", kJob)->has_value());
  const PartInfo info = *WritePart(storage, "a", 8, StateOf(SmallTable(1, 1), 0, 4));
  ASSERT_TRUE(WriteManifest(storage, "a", {.job = 8, .step = 4, .parts = {info}}).ok());
  EXPECT_THAT(dtrain::Message(NewestManifest(storage, "a", kJob).status()), HasSubstr("another job's"));
  EXPECT_EQ(ReadPart(storage, "a", kJob, 4, info).status().code(), StatusCode::kFailedPrecondition);
}

TEST(PsCheckpoint, ReshardingKeepsEveryBitOfParametersAndSlots) {
  Table table{.servers = 3, .chunk_bytes = 8'192};
  for (const int64_t elements : {5'000, 17, 30'000, 4'096, 1}) table.entries.push_back({{Cat("t", elements), DType::kF32, {elements}}, 0});
  std::vector<ShardState> parts;
  for (int server = 0; server < 3; ++server) parts.push_back(StateOf(table, server, 12));
  const auto flat = [](const std::vector<ShardState>& states, int slot) {
    std::vector<float> values;
    for (const ShardState& state : states) {
      const auto& part = slot < 0 ? state.parameters : state.slots[static_cast<size_t>(slot)];
      values.insert(values.end(), part.begin(), part.end());
    }
    return values;
  };
  for (const int servers : {1, 2, 5, 3}) {
    const auto cut = Reshard(parts, servers);
    ASSERT_TRUE(cut.ok()) << cut.status().message();
    ASSERT_EQ(cut->size(), static_cast<size_t>(servers));
    EXPECT_EQ(cut->at(0).table.version, 2u);
    for (int slot = -1; slot < 2; ++slot)
      EXPECT_TRUE(SameBits(flat(*cut, slot), flat(parts, slot))) << servers << " servers, slot " << slot;
    // A shard takes what was cut for it and goes on at the step.
    for (const ShardState& state : *cut) {
      Shard shard({.job = kJob, .server = state.server, .optimizer = {.type = OptimizerType::kAdam}}, {});
      ASSERT_TRUE(shard.Restore(state, 0).ok());
      EXPECT_EQ(shard.version(), 12);
      EXPECT_EQ(shard.Export().slots, state.slots);
    }
  }
  EXPECT_THAT(dtrain::Message(Reshard(parts, 500).status()), HasSubstr("500 servers for"));
  parts[1].version = 11;
  EXPECT_THAT(dtrain::Message(Reshard(parts, 2).status()), HasSubstr("part 1 is not of the same step"));
}

}  // namespace
}  // namespace dtrain::ps
