// Goal: nothing from a peer is used before it was checked, and what is refused is named. Method: one rank's session, fed with
// frames that a peer might send.
#include "allreduce/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "allreduce/direct.h"
#include "allreduce/doubling.h"
#include "allreduce/ring.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

constexpr Group kGroup = {.job = 9, .view = 4, .exchange = 1, .rank = 0, .size = 3};
constexpr TimePoint kNow{std::chrono::hours(1)}, kLater{std::chrono::hours(2)};

std::vector<std::byte> FrameOf(const FrameHeader& header, std::span<const std::byte> payload) {
  FrameHeader whole = header;
  whole.payload_bytes = static_cast<uint32_t>(payload.size());
  auto message = EncodeFrameHeader(whole, payload);
  message.insert(message.end(), payload.begin(), payload.end());
  return message;
}

// The ring all-reduce of 6 floats among 3 ranks, chunks of one float: rank 0 gets slices 1 and 0 from rank 2 in the first
// phase, 2 and 1 in the second.
class RingSession : public ::testing::Test {
 protected:
  RingSession() { EXPECT_TRUE(session_.Begin(MakeRing(), kLater).ok()); }
  std::unique_ptr<Collective> MakeRing() {
    return std::make_unique<RingReduce>(kGroup, Elements(std::span<float>(data_)), ChunkOptions{.chunk_bytes = 4, .window = 8});
  }
  FrameHeader Header(uint8_t phase, int64_t offset) const {
    return {.kind = FrameKind::kReduce,
            .job = kGroup.job,
            .view = kGroup.view,
            .exchange = kGroup.exchange,
            .step = 0,
            .part = Pack({.call = Call::kAllReduce, .phase = phase, .scheme = 1, .total = 6}),
            .offset = offset};
  }
  Status Give(const FrameHeader& header, int from = 2, size_t floats = 1) {
    const std::vector<float> payload(floats, 10);
    return session_.Receive(from, FrameOf(header, std::as_bytes(std::span(payload))));
  }
  void ExpectRefused(const Status& status, StatusCode code, const std::string& text) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(Message(status), HasSubstr(text));
    EXPECT_EQ(session_.status(), status);  // for good
    EXPECT_FALSE(session_.Takes(1));
    EXPECT_EQ(session_.CheckTime(kNow), status);
  }

  std::vector<float> data_ = {0, 1, 2, 3, 4, 5};
  Session session_{kGroup};
};

TEST_F(RingSession, TakesWhatBelongsToItAndFinishes) {
  for (const int64_t offset : {2, 3, 0, 1}) ASSERT_TRUE(Give(Header(0, offset)).ok());
  for (const int64_t offset : {4, 5, 2, 3}) ASSERT_TRUE(Give(Header(1, offset)).ok());
  EXPECT_THAT(data_, ::testing::ElementsAre(10, 11, 10, 10, 10, 10));
  EXPECT_FALSE(session_.done());  // not all that it sent has left
  const auto messages = session_.TakeOutgoing();
  EXPECT_EQ(messages.size(), 8u);
  for (const auto& message : messages) ASSERT_TRUE(session_.Sent(message.to).ok());
  EXPECT_TRUE(session_.done());
}

TEST_F(RingSession, RepeatGapAndForeignSliceAreRefused) {
  ASSERT_TRUE(Give(Header(0, 2)).ok());
  ExpectRefused(Give(Header(0, 2)), StatusCode::kInvalidArgument, "rank 2 sent elements from 2 on again, expected those from 3");
}
TEST_F(RingSession, GapIsRefused) {
  ExpectRefused(Give(Header(0, 3)), StatusCode::kInvalidArgument, "rank 2 sent elements from 3 on too early, expected those from 2");
}
TEST_F(RingSession, SliceThatBeginsHereIsRefused) {
  ExpectRefused(Give(Header(0, 4)), StatusCode::kInvalidArgument, "rank 2 sent elements from 4 on, which it does not have to send");
}
TEST_F(RingSession, OffsetBeyondTheBufferIsRefused) {
  ExpectRefused(Give(Header(1, 6)), StatusCode::kInvalidArgument, "rank 2 sent elements from 6 on, which it does not have to send");
}
TEST_F(RingSession, LengthOtherThanTheChunksIsRefused) {
  ExpectRefused(Give(Header(0, 2), 2, 2), StatusCode::kInvalidArgument, "rank 2 sent 2 elements from 2 on, expected 1");
}
TEST_F(RingSession, EmptyChunkIsRefused) {
  ExpectRefused(Give(Header(0, 2), 2, 0), StatusCode::kInvalidArgument, "rank 2 sent 0 elements from 2 on, expected 1");
}
TEST_F(RingSession, RankThatIsNotTheLeftNeighbourIsRefused) {
  ExpectRefused(Give(Header(0, 2), 1), StatusCode::kInvalidArgument, "rank 1 is not the left neighbour");
}
TEST_F(RingSession, PhaseThatDoesNotExistIsRefused) {
  ExpectRefused(Give(Header(2, 2)), StatusCode::kInvalidArgument, "rank 2 is in phase 2, which there is not");
}
TEST_F(RingSession, OtherCallSizeTypeAndAlgorithmAreRefused) {
  const auto refused = [&](const FrameHeader& header, const std::string& text) {
    Session session(kGroup);
    EXPECT_TRUE(session.Begin(MakeRing(), kLater).ok());
    const float payload[] = {10, 10};
    const Status status = session.Receive(2, FrameOf(header, std::as_bytes(std::span(payload).first(header.dtype == DType::kF64 ? 2 : 1))));
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(Message(status), HasSubstr(text));
  };
  FrameHeader header = Header(0, 2);
  header.part = Pack({.call = Call::kAllReduce, .scheme = 1, .total = 7});
  refused(header, "AllReduce of 6 elements of type F32: rank 2 called AllReduce of 7 elements of type F32");
  header.part = Pack({.call = Call::kBroadcast, .detail = 1, .total = 6});
  refused(header, "rank 2 called Broadcast from rank 1 of 6 elements");
  header.part = Pack({.call = Call::kBarrier});
  refused(header, "rank 2 called Barrier");
  header.part = Pack({.call = static_cast<Call>(200)});
  refused(header, "rank 2 called an unknown call");
  header.part = Pack({.call = Call::kAllReduce, .scheme = 2, .total = 6});
  refused(header, "rank 2 uses another algorithm");
  // Partial sums of bf16 travel as float.
  header.part = Pack({.call = Call::kAllReduce, .detail = static_cast<uint8_t>(DType::kBF16), .scheme = 1, .total = 6});
  refused(header, "of type F32: rank 2 called AllReduce of 6 elements of type BF16");
  header = Header(0, 2);
  header.dtype = DType::kF64;
  refused(header, "rank 2 sent elements of type F64, expected F32");
}

TEST_F(RingSession, OlderViewIsDroppedAndCountedNewerIsAnError) {
  FrameHeader header = Header(0, 3);  // would be a gap
  header.view = 3;
  EXPECT_TRUE(Give(header).ok());
  EXPECT_EQ(session_.dropped_of_older_views(), 1);
  EXPECT_TRUE(Give(Header(0, 2)).ok());
  header.view = 5;
  ExpectRefused(Give(header), StatusCode::kAborted, "rank 2: it is in view 5 already, this rank in view 4");
}
TEST_F(RingSession, OtherJobOrExchangeIsRefused) {
  FrameHeader header = Header(0, 2);
  header.exchange = 2;
  ExpectRefused(Give(header), StatusCode::kInvalidArgument, "from rank 2: a message of job 9, exchange 2; this is job 9, exchange 1");
}
TEST_F(RingSession, WhatIsNoFrameIsRefused) {
  auto message = FrameOf(Header(0, 2), std::as_bytes(std::span(data_).first(1)));
  message.back() ^= std::byte{1};
  ExpectRefused(session_.Receive(2, message), StatusCode::kDataLoss, "receive from rank 2: read a frame: the payload's checksum");
}
TEST_F(RingSession, RankThatIsAheadIsHeardOnlyWhenItIsNeededNoMore) {
  FrameHeader next = Header(0, 2);
  next.step = 1;
  EXPECT_TRUE(Give(next, 1).ok());  // rank 1 owes nothing to rank 0
  EXPECT_FALSE(session_.Takes(1));  // and its next message waits
  EXPECT_TRUE(session_.Takes(2));
  ExpectRefused(Give(next, 2), StatusCode::kInvalidArgument, "rank 2 is at collective 1 already and left out something of this one");
}
TEST_F(RingSession, MessageForACallThatIsOverIsRefused) {
  for (const int64_t offset : {2, 3, 0, 1}) ASSERT_TRUE(Give(Header(0, offset)).ok());
  for (const int64_t offset : {4, 5, 2, 3}) ASSERT_TRUE(Give(Header(1, offset)).ok());
  for (const auto& message : session_.TakeOutgoing()) ASSERT_TRUE(session_.Sent(message.to).ok());
  ASSERT_TRUE(session_.Begin(MakeRing(), kLater).ok());
  ExpectRefused(Give(Header(1, 3)), StatusCode::kInvalidArgument,
                "from rank 2: a message for collective 0 (AllReduce of 6 elements of type F32), which is over; this rank is at 1");
}
TEST_F(RingSession, DeadlineNamesWhoDidNotSend) {
  EXPECT_TRUE(session_.CheckTime(kLater - Duration(1)).ok());
  ExpectRefused(session_.CheckTime(kLater), StatusCode::kDeadlineExceeded, "(collective 0): rank 2 did not send what is missing in time");
}
TEST_F(RingSession, DeadlineNamesWhoDidNotTake) {
  for (const int64_t offset : {2, 3, 0, 1}) ASSERT_TRUE(Give(Header(0, offset)).ok());
  for (const int64_t offset : {4, 5, 2, 3}) ASSERT_TRUE(Give(Header(1, offset)).ok());
  ExpectRefused(session_.CheckTime(kLater), StatusCode::kDeadlineExceeded, "rank 1 did not take what was for them in time");
}
TEST_F(RingSession, OnlyTheEndOfARankThatIsStillNeededIsAnError) {
  EXPECT_TRUE(session_.Gone(1, Unavailable("it closed the connection")).ok());
  ExpectRefused(session_.Gone(2, Unavailable("it closed the connection")), StatusCode::kUnavailable,
                "(collective 0): rank 2 is gone: it closed the connection");
}
TEST_F(RingSession, LastWordsOfARankAreGivenOnFitForATerminal) {
  Session other({.job = 9, .view = 4, .exchange = 1, .rank = 1, .size = 3});
  ExpectRefused(session_.Receive(1, other.AbortMessage(DeadlineExceeded("rank 2\x1b[31m is late"))), StatusCode::kUnavailable,
                "rank 1 gave up: rank 2?[31m is late");
}

TEST(Session, EarlyMessageIsDeliveredInItsTurn) {
  const Group group = {.job = 9, .rank = 0, .size = 2};
  Session session(group);
  ASSERT_TRUE(session.Begin(std::make_unique<Doubling>(group), kLater).ok());
  const auto barrier = [&](int64_t step) {
    return FrameOf({.kind = FrameKind::kReduce, .job = 9, .step = step, .part = Pack({.call = Call::kBarrier, .phase = 1})}, {});
  };
  ASSERT_TRUE(session.Receive(1, barrier(0)).ok());
  ASSERT_TRUE(session.Sent(1).ok());
  ASSERT_TRUE(session.done());
  ASSERT_TRUE(session.Receive(1, barrier(1)).ok());
  EXPECT_FALSE(session.Takes(1));
  ASSERT_TRUE(session.Begin(std::make_unique<Doubling>(group), kLater).ok());
  ASSERT_TRUE(session.Sent(1).ok());
  EXPECT_TRUE(session.done());
  EXPECT_TRUE(session.Takes(1));
  // A repeat of what was early comes too late.
  EXPECT_EQ(session.Receive(1, barrier(1)).code(), StatusCode::kInvalidArgument);
}

TEST(Session, PairThatDisagreesOnItsSizeIsTold) {
  const Group group = {.job = 9, .rank = 0, .size = 2};
  Session session(group);
  std::vector<std::byte> data(8);
  std::vector<std::span<const std::byte>> to = {{}, std::span(data).first(3)};
  std::vector<std::span<std::byte>> from = {{}, std::span(data).subspan(4)};
  ASSERT_TRUE(session.Begin(std::make_unique<DirectExchange>(group, Call::kAllToAll, to, from, ChunkOptions{}), kLater).ok());
  const std::byte payload[5] = {};
  const Status status = session.Receive(
      1,
      FrameOf({.kind = FrameKind::kReduce, .dtype = DType::kU8, .job = 9, .part = Pack({.call = Call::kAllToAll, .total = 5})}, payload));
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr("AllToAll of 4 elements: rank 1 called AllToAll of 5 elements"));
}

}  // namespace
}  // namespace dtrain
