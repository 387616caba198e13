// Goal: each rule of a stale or asynchronous shard, of backup workers, registration and state. Method: one shard is told messages one by
// one; what it says and what its parameters are is compared with the serial run of small_job.h.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/paramserver/one_shard.h"

namespace dtrain::ps {
namespace {

using testing::HasSubstr;

TEST(ShardStale, AWorkerMayBeTheBoundAheadAndNoMore) {
  ShardOptions options = Sync(2);
  options.mode = Mode::kStale;
  options.staleness_bound = 2;
  OneShard job(options);
  const std::vector<float> gradient(static_cast<size_t>(job.layout_.elements), 1);
  job.PushChunk(0, 2, {0, 0}, 0, gradient, 0);
  EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kLater);
  job.PushChunk(0, 3, {0, 0}, 0, gradient, 1);
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("the open step is 0 and the bound 2"));
  job.PushUnit(0, 0, {0, 0});
  job.PushUnit(1, 0, {0, 1});
  job.PushUnit(0, 1, {0, 0});
  job.PushUnit(1, 1, {0, 1});
  job.PushUnit(0, 2, {0, 0});
  job.PushUnit(1, 2, {0, 1});
  ASSERT_EQ(job.shard_.version(), 3);
  job.PushChunk(0, 3, {0, 0}, 0, gradient, 0);
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("computed on version 0; expected 1 to 3"));
  job.PushChunk(0, 3, {0, 0}, 0, gradient, 1);
  EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kTaken);
  EXPECT_EQ(job.shard_.staleness().at(0)[2], 1);
}

TEST(ShardAsync, EachPushIsAnUpdateAndTheRateSinksWithStaleness) {
  for (const StalenessRule rule : {StalenessRule::kNone, StalenessRule::kLinear, StalenessRule::kSqrt}) {
    ShardOptions options = Sync(1);
    options.mode = Mode::kAsync;
    options.optimizer = {};
    options.staleness_rule = rule;
    options.learning_rate = [](Step) { return 0.5; };
    OneShard job(options, 1);
    std::vector<float> expected = job.Parameters();
    const std::vector<float> gradient(16, 0.25F);
    const double divisors[] = {1, 1, 2, 3};
    for (int64_t lease = 0; lease < 4; ++lease) {  // all computed on version 0
      job.Say(0, Push{{0, lease, {}}, 0, 0, 0.5}, gradient);
      EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kTaken);
      EXPECT_EQ(job.Last<Parameters>()->version, lease + 1);
      const double divisor = rule == StalenessRule::kNone     ? 1
                             : rule == StalenessRule::kLinear ? divisors[lease]
                                                              : std::sqrt(divisors[lease]);
      for (float& parameter : expected) parameter -= static_cast<float>(0.5 / divisor) * (0.25F * 0.5F);
      EXPECT_TRUE(SameBits(job.Parameters(), expected)) << lease;
      EXPECT_EQ(job.shard_.staleness().at(0)[static_cast<size_t>(lease)], 1);
    }
  }
  EXPECT_EQ(DefaultStalenessRule(OptimizerType::kSgd), StalenessRule::kLinear);
  EXPECT_EQ(DefaultStalenessRule(OptimizerType::kAdamW), StalenessRule::kSqrt);
}

TEST(ShardAsync, ALeaseCountsOncePerChunkAndLiesAreRefused) {
  ShardOptions options = Sync(1);
  options.mode = Mode::kAsync;
  OneShard job(options, 2);
  std::vector<float> gradient(16, 0.25F);
  job.Say(0, Push{{0, 3, {}}, 0, 0, 1}, gradient);
  const auto after = job.Parameters();
  job.Say(2, Push{{0, 3, {}}, 0, 0, 1}, gradient);  // re-issued to another worker
  EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kTaken);
  EXPECT_TRUE(job.last_.taken.empty());
  EXPECT_TRUE(SameBits(job.Parameters(), after));
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Push& lie :
       {Push{{0, 4, {}}, 0, 5, 1}, Push{{0, 4, {}}, 0, 0, 0}, Push{{0, 4, {}}, 0, 0, infinity}, Push{{0, 4, {1, 0}}, 0, 0, 1}}) {
    job.Say(0, lie, gradient);
    EXPECT_NE(job.Last<Refused>(), nullptr);
  }
  gradient[7] = std::numeric_limits<float>::quiet_NaN();
  job.Say(0, Push{{0, 4, {}}, 0, 0, 1}, gradient);
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("not finite"));
  job.Say(0, Push{{0, kLeasesOpenMax + 9, {}}, 0, 0, 1}, std::vector<float>(16, 1));
  EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kLater);
  EXPECT_TRUE(SameBits(job.Parameters(), after));
}

TEST(ShardBackup, TheFirstNCountAndTheRestIsTurnedAwayByVersion) {
  ShardOptions options = Sync(2);
  options.backup_workers = true;
  OneShard job(options);
  job.Say(3, Claim{0, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, 0);
  EXPECT_TRUE(job.last_.decisions == std::vector<Decision>{(GrantDecision{0, 0, 3})});
  job.Say(1, Claim{0, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, 1);
  job.Say(0, Claim{0, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, -1);
  job.Say(1, Claim{0, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, 1) << "the stored answer";
  EXPECT_TRUE(job.last_.decisions.empty());
  job.PushUnit(3, 0, {0, 0});
  job.PushUnit(1, 0, {0, 1});
  ASSERT_EQ(job.shard_.version(), 1);
  job.Say(2, Claim{1, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, 0);
  job.Say(0, Claim{0, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, -1) << "dropped by version";
  EXPECT_EQ(job.shard_.not_needed(), 1);
}

TEST(ShardBackup, TheSlotOfAWorkerThatIsGoneGoesToOneThatWasTurnedAway) {
  ShardOptions options = Sync(2);
  options.backup_workers = true;
  OneShard job(options);
  for (const int32_t worker : {3, 1, 0}) job.Say(worker, Claim{0, 1});
  job.OpenViewOf(2, 3);  // worker 3 is gone
  ASSERT_NE(job.Last<Granted>(), nullptr);
  EXPECT_EQ(job.Last<Granted>()->slot, 0);
  EXPECT_TRUE(job.last_.decisions == std::vector<Decision>{(GrantDecision{0, 0, 0})});
}

TEST(ShardBackup, AfterARollbackTheJournalDecidesTheSameWay) {
  ShardOptions options = Sync(2);
  options.backup_workers = true;
  OneShard job(options, 3, 4, {GrantDecision{0, 0, 3}, GrantDecision{0, 1, 1}, GrantDecision{0, 0, 2}});
  job.Say(0, Claim{0, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, -1);
  job.Say(3, Claim{0, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, -1);
  job.Say(2, Claim{0, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, 0) << "the newest word for a slot holds";
  job.Say(1, Claim{0, 1});
  EXPECT_EQ(job.Last<Granted>()->slot, 1);
}

TEST(ShardState, ExportAndRestoreGoOnWithTheSameBits) {
  for (const Mode mode : {Mode::kSync, Mode::kAsync}) {
    ShardOptions options = Sync(1);
    options.mode = mode;
    options.checkpoint_every_steps = 2;
    options.optimizer = {.type = OptimizerType::kAdam};
    OneShard job(options, 4);
    const auto step = [&](OneShard& on, Step s) {
      if (mode == Mode::kSync) return on.PushUnit(0, s, {0, 0});
      const auto gradient = UnitGradient(on.layout_, on.Parameters(), s, {0, 0});
      for (int c = 0; c < 4; ++c) {
        const Chunk& chunk = on.shard_.sharding().chunks[c];
        on.Say(0, Push{{0, s, {}}, chunk.range.begin, on.shard_.chunk_version(c), 1}, OneShard::Part(gradient, chunk));
      }
    };
    step(job, 0);
    step(job, 1);
    if (mode == Mode::kSync) {
      EXPECT_EQ(job.last_.save, std::optional<Step>(2));
    }
    const ShardState state = job.shard_.Export();
    OneShard other(options, 4);
    other.shard_.~Shard();
    new (&other.shard_) Shard(options, {});
    ASSERT_TRUE(other.shard_.Restore(state, 0).ok());
    other.OpenViewOf(1, 4);
    step(job, 2);
    step(other, 2);
    EXPECT_TRUE(SameBits(job.Parameters(), other.Parameters()));
    if (mode == Mode::kAsync) {
      other.Say(1, Push{{0, 1, {}}, 0, 0, 1}, std::vector<float>(16, 1));
      EXPECT_TRUE(other.last_.taken.empty()) << "leases of before count once";
    }
    ShardState wrong = state;
    wrong.parameters.pop_back();
    EXPECT_FALSE(Shard(options, {}).Restore(wrong, 0).ok());
    wrong = state;
    wrong.slots.pop_back();
    EXPECT_FALSE(Shard(options, {}).Restore(wrong, 0).ok());
    wrong = state;
    wrong.server = 1;
    EXPECT_FALSE(Shard(options, {}).Restore(wrong, 0).ok());
  }
}

TEST(ShardRegister, OthersAreComparedWithRankZero) {
  OneShard job(Sync(1));
  Table other = job.table_;
  other.entries[2].info.shape = {17};
  job.Say(1, Register{other});
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("tensor 2 is 't2' F32 (17); the table has F32 (16)"));
  other = job.table_;
  other.version = 4;
  job.Say(1, Register{other});
  EXPECT_TRUE(job.Last<WrongTable>()->table == job.table_);
  job.Say(1, Register{job.table_});
  EXPECT_TRUE(job.Last<Registered>()->ready);
  // The first word is rank 0's.
  Shard empty(Sync(1), {});
  empty.Receive(kNoWorker, {{5, 1, kNoWorker, 0, 0}, OpenView{{{0, 10}, {1, 11}}}, {}}, kStart);
  empty.Receive(1, {{5, 1, 1, 11, 1}, Register{job.table_}, {}}, kStart);
  EXPECT_EQ(empty.table().version, 0u);
  Table bad = job.table_;
  bad.entries[0].info.shape = {-1};
  // Nothing is allocated for what does not fit.
  Table vast = job.table_;
  vast.entries[0].info.shape = {int64_t{1} << 38};
  const Effects too_large = empty.Receive(0, {{5, 1, 0, 10, 1}, Register{vast}, {}}, kStart);
  ASSERT_TRUE(std::holds_alternative<Refused>(too_large.messages.at(0).message.body));
  EXPECT_THAT(std::get<Refused>(too_large.messages[0].message.body).why, HasSubstr("server 0 would need"));
  const Effects refused = empty.Receive(0, {{5, 1, 0, 10, 1}, Register{bad}, {}}, kStart);
  EXPECT_TRUE(std::holds_alternative<Refused>(refused.messages.at(0).message.body));
  EXPECT_EQ(empty.table().version, 0u);
}

TEST(ShardOptionsCheck, EachFaultIsNamed) {
  const auto fault = [](auto change) {
    ShardOptions options = Sync(4);
    change(options);
    return dtrain::Message(CheckShardOptions(options));
  };
  EXPECT_THAT(fault([](ShardOptions& o) { o.staleness_bound = 1; }), HasSubstr("without mode ssp"));
  EXPECT_THAT(fault([](ShardOptions& o) {
                o.mode = Mode::kStale;
                o.staleness_bound = -1;
              }),
              HasSubstr("staleness is -1"));
  EXPECT_THAT(fault([](ShardOptions& o) { o.leaves = 0; }), HasSubstr("0 leaves"));
  EXPECT_THAT(fault([](ShardOptions& o) { o.clip_norm = -1; }), HasSubstr("clip_norm is -1"));
  EXPECT_THAT(fault([](ShardOptions& o) {
                o.mode = Mode::kAsync;
                o.backup_workers = true;
              }),
              HasSubstr("without mode sync"));
  EXPECT_THAT(fault([](ShardOptions& o) { o.groups.clear(); }), HasSubstr("0 parameter groups"));
  EXPECT_THAT(fault([](ShardOptions& o) { o.optimizer.momentum = 2; }), HasSubstr("momentum is 2"));
}

}  // namespace
}  // namespace dtrain::ps
