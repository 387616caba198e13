// Goal: each rule of a synchronous shard by itself. Method: one shard is told messages one by one; what it says and what
// its parameters are is compared with the serial run of small_job.h.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/paramserver/one_shard.h"

namespace dtrain::ps {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

TEST(ShardSync, EqualsTheSerialRunWhateverTheUnitsAndTheOrder) {
  const ShardOptions options = Sync(8);
  SerialRun serial(SmallTable(3, 1), options);
  OneShard job(options);
  const std::vector<std::vector<SubTree>> units = {{{3, 0}}, {{2, 0}, {2, 1}}, {{2, 0}, {1, 2}, {1, 3}}, {{0, 0}, {0, 1}, {1, 1}, {2, 1}}};
  for (Step step = 0; step < 4; ++step) {
    // Backwards, so that each unit but the first is early and held.
    for (auto unit = units[step].rbegin(); unit != units[step].rend(); ++unit) {
      EXPECT_EQ(job.shard_.version(), step);
      job.PushUnit(static_cast<int32_t>(unit->index), step, *unit);
    }
    serial.Run(step, options);
    EXPECT_EQ(job.shard_.version(), step + 1);
    EXPECT_TRUE(SameBits(job.Parameters(), serial.parameters)) << step;
    EXPECT_EQ(job.shard_.held_bytes(), 0);
  }
}

TEST(ShardSync, SumDoesNotDivideByTheWeight) {
  ShardOptions options = Sync(2);
  options.reduce = Reduce::kSum;
  SerialRun serial(SmallTable(3, 1), options);
  OneShard job(options);
  job.PushUnit(0, 0, {1, 0});
  serial.Run(0, options);
  EXPECT_TRUE(SameBits(job.Parameters(), serial.parameters));
}

TEST(ShardSync, ARepeatFromAnybodyGetsTheSameAnswerAndCountsOnce) {
  OneShard job(Sync(2));
  const auto gradient = UnitGradient(job.layout_, job.Parameters(), 0, {0, 0});
  EXPECT_EQ(job.PushChunk(0, 0, {0, 0}, 0, gradient).taken.size(), 1u);
  for (const int32_t worker : {0, 3}) {
    const Effects& again = job.PushChunk(worker, 0, {0, 0}, 0, gradient);
    EXPECT_TRUE(again.taken.empty());
    EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kTaken);
  }
  job.PushUnit(0, 0, {0, 0});
  job.PushUnit(1, 0, {0, 1});
  ASSERT_EQ(job.shard_.version(), 1);
  const auto closed = job.Parameters();
  EXPECT_TRUE(job.PushChunk(2, 0, {0, 1}, 1, gradient).taken.empty());
  EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kClosed);
  job.Say(2, Finish{0, {0, 1}, 1, 1, true, true});
  EXPECT_EQ(job.Last<Closed>()->version, 1);
  EXPECT_EQ(job.Count<Parameters>(), 3);
  EXPECT_TRUE(SameBits(job.Parameters(), closed));
}

TEST(ShardSync, AnEarlyPushWithoutRoomWaitsAtItsSenderAndIsCalled) {
  ShardOptions options = Sync(2);
  options.held_bytes_max = 0;
  OneShard job(options);
  const auto second = UnitGradient(job.layout_, job.Parameters(), 0, {0, 1}),
             first = UnitGradient(job.layout_, job.Parameters(), 0, {0, 0});
  job.PushChunk(1, 0, {0, 1}, 2, second);
  EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kLater);
  EXPECT_EQ(job.shard_.held_bytes(), 0);
  job.PushChunk(0, 0, {0, 0}, 2, first);
  ASSERT_EQ(job.last_.messages.size(), 2u);
  EXPECT_EQ(job.last_.messages[1].to, 1);
  EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kNow);
  EXPECT_TRUE(job.Last<PushAnswer>()->work == (Work{0, 0, {0, 1}}));
}

TEST(ShardSync, AnotherCutOfLeavesThatArePartlyInIsRefused) {
  OneShard job(Sync(4));
  const auto gradient = UnitGradient(job.layout_, job.Parameters(), 0, {0, 0});
  job.PushChunk(0, 0, {0, 0}, 0, gradient);
  job.PushChunk(1, 0, {1, 0}, 0, gradient);
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("some leaves of sub-tree (1, 0)"));
  job.Say(0, Finish{0, {0, 1}, 1, 1, true, true});
  job.Say(0, Finish{0, {1, 0}, 1, 1, true, true});
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("are part of another one"));
}

TEST(ShardSync, WhatWaitsAndIsOvertakenByALargerSubTreeIsForgotten) {
  const ShardOptions options = Sync(2);
  SerialRun serial(SmallTable(3, 1), options);
  OneShard job(options);
  job.PushChunk(1, 0, {0, 1}, 0, UnitGradient(job.layout_, job.Parameters(), 0, {0, 1}));
  EXPECT_EQ(job.Last<PushAnswer>()->outcome, PushOutcome::kHeld);
  job.PushUnit(0, 0, {1, 0});
  EXPECT_EQ(job.shard_.held_bytes(), 0);
  job.PushUnit(0, 1, {0, 0});
  job.PushUnit(1, 1, {0, 1});
  for (const Step step : {0, 1}) serial.Run(step, options);
  EXPECT_EQ(job.shard_.version(), 2);
  EXPECT_TRUE(SameBits(job.Parameters(), serial.parameters));
}

TEST(ShardSync, WhatIsNotOfThisJobViewProcessOrTableIsFenced) {
  OneShard job(Sync(1));
  const auto gradient = UnitGradient(job.layout_, job.Parameters(), 0, {0, 0});
  const auto push = [&](const auto& change) -> const Effects& {
    Message message{job.Sender(0), Push{{0, 0, {0, 0}}, 0, 0}, OneShard::Part(gradient, job.shard_.sharding().chunks[0])};
    change(message.sender);
    return job.Note(job.shard_.Receive(0, message, kStart));
  };
  EXPECT_TRUE(push([](Sender& s) { s.job = 6; }).taken.empty());
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("of another job"));
  EXPECT_TRUE(push([](Sender& s) { s.worker = 1; }).taken.empty());
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("in the name of worker 1"));
  EXPECT_TRUE(push([](Sender& s) { s.view = 0; }).taken.empty());
  EXPECT_NE(job.Last<WrongView>(), nullptr);
  EXPECT_EQ(job.last_.messages[0].message.sender.view, 1) << "it is told the view in force";
  EXPECT_TRUE(push([](Sender& s) { s.view = 2; }).taken.empty());
  EXPECT_NE(job.Last<WrongView>(), nullptr);
  EXPECT_TRUE(push([](Sender& s) { s.incarnation = 9; }).taken.empty());
  EXPECT_NE(job.Last<WrongView>(), nullptr);
  EXPECT_TRUE(push([](Sender& s) { s.table = 7; }).taken.empty());
  EXPECT_TRUE(job.Last<WrongTable>()->table == job.table_);
  EXPECT_EQ(push([](Sender&) {}).taken.size(), 1u);
  // A worker may not say what only the coordinator may, nor the other way round.
  job.Note(job.shard_.Receive(0, {job.Sender(0), OpenView{}, {}}, kStart));
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("may not send one"));
  EXPECT_EQ(job.shard_.view(), 1);
}

TEST(ShardSync, HostileNumbersChangeNothing) {
  OneShard job(Sync(4));
  const auto before = job.Parameters();
  const std::vector<float> right(16, 1), wrong(15, 1);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::pair<Body, std::span<const float>>> lies = {
      {Push{{0, 0, {0, 0}}, 16, 0}, wrong},         // too few elements
      {Push{{0, 0, {0, 0}}, 8, 0}, right},          // no chunk begins there
      {Push{{0, 0, {0, 0}}, 1 << 20, 0}, right},    // beyond the table
      {Push{{0, 0, {3, 0}}, 16, 0}, right},         // more leaves than a step has
      {Push{{0, 0, {0, 4}}, 16, 0}, right},         //
      {Push{{3, 0, {0, 0}}, 16, 0}, right},         // an epoch in a synchronous push
      {Push{{0, 7, {0, 0}}, 16, 7}, right},         // a step to come
      {Push{{0, 0, {0, 0}}, 16, 3}, right},         // computed on what does not exist yet
      {Initial{8}, right},                          //
      {Pull{8, 0, 0}, {}},                          //
      {Finish{9, {0, 0}, 1, 1, true, true}, {}},    //
      {Finish{0, {0, 5}, 1, 1, true, true}, {}},    //
      {Finish{0, {0, 0}, -1, 1, true, true}, {}},   //
      {Finish{0, {0, 0}, nan, 1, true, true}, {}},  //
      {Close{0, 1}, {}},                            // nothing to close
      {Close{5, 1}, {}},                            //
      {Claim{0, 1}, {}},                            // there are no backup workers
      {Waiting{0}, {}},                             // what only a server says
      {Parameters{3, 16}, right},                   //
      {Granted{0, 0}, {}},                          //
      {ViewTaken{3}, {}},                           //
  };
  for (const auto& [body, elements] : lies) {
    const Effects& effects = job.Say(1, body, elements);
    EXPECT_TRUE(effects.taken.empty());
    EXPECT_NE(job.Last<Refused>(), nullptr) << NameOf({{}, body, {}});
  }
  job.Say(1, Initial{16}, right);  // not its to give
  EXPECT_NE(job.Last<Refused>(), nullptr);
  EXPECT_TRUE(SameBits(job.Parameters(), before));
  EXPECT_EQ(job.shard_.version(), 0);
  job.PushUnit(0, 0, {2, 0});
  EXPECT_EQ(job.shard_.version(), 1) << "and it still works";
}

TEST(ShardSync, TheNormIsSharedBeforeAnythingIsAppliedAndClips) {
  ShardOptions options = Sync(2);
  options.clip_norm = 0.05;
  SerialRun serial(SmallTable(3, 1), options);
  OneShard job(options);
  job.PushUnit(0, 0, {1, 0});
  ASSERT_NE(job.Last<Sums>(), nullptr);
  const auto parts = job.Last<Sums>()->parts;
  EXPECT_EQ(job.shard_.version(), 0);
  const double square_sum = *JoinParts(parts, 3);
  job.Say(1, Finish{0, {1, 0}, 3, 1, true, true});  // a repeat is told the sums, too
  EXPECT_TRUE(job.Last<Sums>()->parts == parts);
  job.Say(1, Close{0, square_sum});
  EXPECT_EQ(job.shard_.version(), 1);
  EXPECT_GT(job.Last<Closed>()->norm, options.clip_norm);
  serial.Run(0, options);
  EXPECT_TRUE(SameBits(job.Parameters(), serial.parameters));
  job.Say(0, Close{0, square_sum});
  EXPECT_EQ(job.Last<Closed>()->version, 1);
}

TEST(ShardSync, ASecondOpinionOnTheNormIsRefused) {
  ShardOptions options = Sync(1);
  options.clip_norm = 1;
  options.lease = seconds(5);
  OneShard job(options);
  job.hold_pins_ = true;
  job.PushUnit(0, 0, {0, 0});
  job.Say(0, Close{0, 1});
  ASSERT_EQ(job.shard_.version(), 1);
  job.Say(0, Pull{0, 0, 0});  // pins the buffer that step 1 has to write
  job.PushUnit(0, 1, {0, 0});
  job.Say(0, Close{1, 1});
  EXPECT_EQ(job.shard_.version(), 1);
  job.Say(1, Close{1, 2});
  EXPECT_THAT(job.Last<Refused>()->why, HasSubstr("was told 1"));
}

TEST(ShardSync, AStepThatIsNotFiniteIsSkippedRecordedAndStaysSkipped) {
  ShardOptions options = Sync(2);
  options.skip_non_finite = true;
  OneShard job(options);
  const auto before = job.Parameters();
  job.PushUnit(0, 0, {0, 0}, false);
  job.PushUnit(1, 0, {0, 1});
  EXPECT_EQ(job.shard_.version(), 1);
  EXPECT_FALSE(job.Last<Closed>()->applied);
  EXPECT_TRUE(SameBits(job.Parameters(), before));
  ASSERT_EQ(job.last_.decisions.size(), 1u);
  EXPECT_TRUE(job.last_.decisions[0] == Decision(SkipDecision{0}));
  // Finite gradients whose sum is not.
  const std::vector<float> huge(static_cast<size_t>(job.layout_.elements), 3e38F);
  for (int c = 0; c < 3; ++c) {
    for (const int64_t leaf : {0, 1}) job.PushChunk(0, 1, {0, leaf}, c, huge);
  }
  for (const int64_t leaf : {0, 1}) job.Say(0, Finish{1, {0, leaf}, 1, 1, true, true});
  job.Say(0, Close{1, *JoinParts(job.Last<Sums>()->parts, 3)});
  EXPECT_EQ(job.shard_.version(), 2);
  EXPECT_FALSE(job.Last<Closed>()->applied);
  EXPECT_TRUE(SameBits(job.Parameters(), before));
  // The same steps again, the first one finite this time: the journal's word holds.
  OneShard again(options, 3, 4, {SkipDecision{0}});
  again.PushUnit(0, 0, {1, 0});
  again.Say(0, Close{0, *JoinParts(again.Last<Sums>()->parts, 3)});
  EXPECT_FALSE(again.Last<Closed>()->applied);
  EXPECT_TRUE(SameBits(again.Parameters(), before));
}

TEST(ShardSync, AReaderHoldsASnapshotForALeaseAndNoLonger) {
  ShardOptions options = Sync(1);
  options.lease = seconds(5);
  OneShard job(options);
  job.PushUnit(0, 0, {0, 0});
  job.hold_pins_ = true;
  job.Say(1, Pull{0, 0, 0});  // the version before the newest
  ASSERT_EQ(job.pins_.size(), 1u);
  const Pin pin = job.pins_[0];
  const std::vector<float> initial = InitialParameters(job.layout_);
  job.hold_pins_ = false;
  job.PushUnit(0, 1, {0, 0});
  EXPECT_EQ(job.shard_.version(), 1) << "a reader is not done";
  EXPECT_TRUE(SameBits(job.shard_.Read(pin), std::span(initial).first(16)));
  job.now_ += seconds(4);
  job.Note(job.shard_.Tick(job.now_));
  EXPECT_EQ(job.shard_.version(), 1);
  job.now_ += seconds(1);
  job.Note(job.shard_.Tick(job.now_));
  EXPECT_EQ(job.shard_.version(), 2) << "its lease is over";
  EXPECT_TRUE(job.shard_.Read(pin).empty()) << "what it reads now is void";
  // One that releases lets the update through at once.
  job.hold_pins_ = true;
  job.pins_.clear();
  job.Say(1, Pull{0, 1, 1});
  job.hold_pins_ = false;
  job.PushUnit(0, 2, {0, 0});
  EXPECT_EQ(job.shard_.version(), 2);
  job.Note(job.shard_.Release(job.pins_[0], job.now_));
  EXPECT_EQ(job.shard_.version(), 3);
}

TEST(ShardSync, APullIsAnsweredWithWhatFitsOrWhenItComes) {
  OneShard job(Sync(1));
  job.Say(2, Pull{16, 1, 1});
  EXPECT_NE(job.Last<PullLater>(), nullptr);
  job.PushUnit(0, 0, {0, 0});
  int to_two = 0;
  for (const Outgoing& message : job.last_.messages) {
    to_two += message.to == 2 && std::holds_alternative<Parameters>(message.message.body) &&
              std::get<Parameters>(message.message.body).offset == 16;
  }
  EXPECT_EQ(to_two, 1);
  job.PushUnit(0, 1, {0, 0});
  job.Say(2, Pull{16, 1, 1});
  EXPECT_EQ(job.Last<Parameters>()->version, 1) << "the one before the newest is still there";
  job.Say(2, Pull{16, 0, 0});
  EXPECT_EQ(job.Last<Passed>()->version, 2);
}

}  // namespace
}  // namespace dtrain::ps
