// Goal: no wait of a communicator over links outlives its deadline, an error says which rank is at fault, memory stays bounded,
// and ranks that all send first do not wait for each other. Method: ranks as threads over simulated links and over TCP; peers
// that close, freeze, send rubbish, run ahead.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "cluster/tcp_transport.h"
#include "tests/allreduce/link_ranks.h"
#include "tests/allreduce/serial_sums.h"
#include "tests/allreduce/thread_ranks.h"
#include "tests/sim/sim_transport.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class Stopwatch {
 public:
  double seconds() const { return Seconds(SystemClock().Now() - begin_); }

 private:
  const TimePoint begin_ = SystemClock().Now();
};

Status SumOf(LinkCommunicator& communicator, int64_t count, Deadline deadline) {
  std::vector<float> data(static_cast<size_t>(count), 1);
  return communicator.AllReduce(std::span<float>(data), deadline);
}

TEST(LinkOpen, GroupOrLinksThatMakeNoSenseAreRefused) {
  SimTransport transport;
  const auto refused = [&](const Group& group, int missing, const std::string& text) {
    auto mesh = MakeMesh(transport, 3);
    if (missing >= 0) mesh[0][static_cast<size_t>(missing)] = nullptr;
    const Status status = LinkCommunicator::Open(std::move(mesh[0]), {.group = group}).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(status), HasSubstr(text));
  };
  refused({.rank = 3, .size = 3}, -1, "rank 3 of 3");
  refused({.rank = 0, .size = 4}, -1, "3 links, expected one for each of 4 ranks");
  refused({.rank = 0, .size = 3}, 2, "rank 0 has no link to rank 2");
  refused({.rank = 1, .size = 3}, -1, "rank 1 has no link to rank 0");
}

// 64 MiB in one direction and 64 in the other, over sockets that take a few MiB at most: each rank sends before it receives.
TEST(LinkTcp, LargeBuffersGoRoundThoughEverybodySendsFirst) {
  TcpTransport transport;
  constexpr int64_t kCount = 16 << 20;
  const auto ended = RunLinkRanks(MakeMesh(transport, 2), {.waiting_bytes_max = 1 << 20}, [&](LinkCommunicator& communicator) -> Status {
    std::vector<float> data(kCount);
    for (int64_t i = 0; i < kCount; ++i) data[i] = static_cast<float>(i % 1000 * (communicator.rank() + 1));
    RETURN_IF_ERROR(communicator.AllReduce(std::span<float>(data), Soon()));
    for (int64_t i = 0; i < kCount; ++i) {
      if (data[i] != static_cast<float>(i % 1000 * 3)) return Internal("sum ", i, " is ", data[i]);
    }
    const auto bytes = std::as_bytes(std::span(data)).first(48 << 20);
    std::vector<std::byte> from(bytes.size());
    const int other = 1 - communicator.rank();
    std::vector<std::span<const std::byte>> to(2);
    std::vector<std::span<std::byte>> in(2);
    to[other] = bytes;
    in[other] = from;
    RETURN_IF_ERROR(communicator.AllToAll(to, in, Soon()));
    return std::ranges::equal(bytes, from) ? OkStatus() : Internal("all-to-all");
  });
  ExpectAllOk(ended);
}

// Links that hold less than one chunk.
TEST(LinkSmallBuffers, RanksThatAllSendFirstDoNotWaitForEachOther) {
  SimTransport transport({.queued_bytes_max = 600});
  const LinkOptions options = {.chunks = {.chunk_bytes = 512, .window = 4}, .tree_bytes_max = -1, .waiting_bytes_max = 512};
  ExpectAllOk(RunLinkRanks(MakeMesh(transport, 4), options, [](LinkCommunicator& communicator) -> Status {
    RETURN_IF_ERROR(SumOf(communicator, 50'000, Soon()));
    std::vector<std::byte> mine(20'000), all(80'000);
    RETURN_IF_ERROR(communicator.AllGather(mine, all, Soon()));
    return communicator.Broadcast(all, 3, Soon());
  }));
}

TEST(LinkFailure, RankThatLeavesIsNamedByAll) {
  SimTransport transport;
  const Stopwatch stopwatch;
  const auto ended = RunLinkRanks(MakeMesh(transport, 4), {}, [](LinkCommunicator& communicator) -> Status {
    RETURN_IF_ERROR(communicator.Barrier(Soon()));
    if (communicator.rank() == 2) return OkStatus();
    return SumOf(communicator, 100'000, Soon());
  });
  for (const size_t rank : {0, 1, 3}) {
    EXPECT_EQ(ended[rank].code(), StatusCode::kUnavailable) << ended[rank];
    EXPECT_THAT(Message(ended[rank]), HasSubstr("rank 2"));
  }
  EXPECT_LT(stopwatch.seconds(), 15);  // not the 30 s of the deadline
}

TEST(LinkFailure, FrozenRankIsNamedByTheDeadline) {
  SimTransport transport;
  auto mesh = MakeMesh(transport, 3);
  std::vector<std::unique_ptr<Link>> frozen = std::move(mesh[2]);  // its links stay open, and nobody is there
  mesh.resize(2);
  std::vector<Status> ended(2);
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto communicator =
          LinkCommunicator::Open(std::move(mesh[rank]), {.group = {.rank = static_cast<int>(rank), .size = 3}, .tree_bytes_max = -1});
      ended[rank] = SumOf(**communicator, 100'000, rank == 0 ? Deadline::In(milliseconds(200)) : Soon());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ended[0].code(), StatusCode::kDeadlineExceeded) << ended[0];
  EXPECT_THAT(Message(ended[0]), HasSubstr("rank 2 did not send what is missing in time"));
  EXPECT_EQ(ended[1].code(), StatusCode::kUnavailable) << ended[1];
  EXPECT_THAT(Message(ended[1]), HasSubstr("rank 0 gave up: AllReduce of 100000 elements of type F32 (collective 0): rank 2"));
}

TEST(LinkFailure, ErrorOfHealthEndsAWaitWithItsCauseAndTheOthersHearIt) {
  SimTransport transport;
  auto mesh = MakeMesh(transport, 3);
  std::vector<Status> ended(2);
  std::vector<std::unique_ptr<Link>> silent = std::move(mesh[2]);
  std::vector<std::thread> threads;
  const Stopwatch stopwatch;
  for (size_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      LinkOptions options = {.group = {.rank = static_cast<int>(rank), .size = 3}};
      if (rank == 0) options.health = [] { return WithExitCode(Unavailable("rank 2 died: killed by signal 9"), ExitCode::kRankFailed); };
      const auto communicator = LinkCommunicator::Open(std::move(mesh[rank]), options);
      ended[rank] = (*communicator)->Barrier(Soon());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Message(ended[0]), "rank 2 died: killed by signal 9");
  EXPECT_EQ(ExitCodeOf(ended[0], ExitCode::kSetUp), ExitCode::kRankFailed);
  EXPECT_EQ(Message(ended[1]), "rank 0 gave up: rank 2 died: killed by signal 9");
  EXPECT_LT(stopwatch.seconds(), 15);
}

TEST(LinkFailure, RanksThatMakeDifferentCallsAreToldWhichAndWhat) {
  SimTransport transport;
  const auto ended = RunLinkRanks(MakeMesh(transport, 2), {}, [](LinkCommunicator& communicator) {
    return communicator.rank() == 0 ? SumOf(communicator, 3, Soon()) : communicator.Barrier(Soon());
  });
  const std::string zero = Message(ended[0]), one = Message(ended[1]);
  EXPECT_TRUE(zero.find("AllReduce of 3 elements of type F32: rank 1 called Barrier") != std::string::npos ||
              one.find("Barrier: rank 0 called AllReduce of 3 elements") != std::string::npos)
      << zero << "\n"
      << one;
  EXPECT_FALSE(ended[0].ok() || ended[1].ok());
}

TEST(LinkFailure, CommunicatorThatFailedStaysFailed) {
  SimTransport transport;
  const auto ended = RunLinkRanks(MakeMesh(transport, 2), {}, [](LinkCommunicator& communicator) -> Status {
    if (communicator.rank() == 1) return OkStatus();
    const Status first = communicator.Barrier(Soon());
    EXPECT_EQ(communicator.Barrier(Soon()), first);
    return first;
  });
  EXPECT_EQ(ended[0].code(), StatusCode::kUnavailable);
}

// One rank behind a real communicator; the test itself is the other end of its link.
class RawPeer : public ::testing::Test {
 protected:
  RawPeer() {
    auto mesh = MakeMesh(transport_, 2);
    peer_ = std::move(mesh[1][0]);
    communicator_ = *LinkCommunicator::Open(std::move(mesh[0]), {.group = {.job = 7, .rank = 0, .size = 2}, .waiting_bytes_max = 10'000});
  }
  std::vector<std::byte> BarrierFrame(int64_t step) const {
    return EncodeFrameHeader({.kind = FrameKind::kReduce, .job = 7, .step = step, .part = Pack({.call = Call::kBarrier, .phase = 1})}, {});
  }
  SimTransport transport_{{.queued_bytes_max = 10'000}};
  std::unique_ptr<Link> peer_;
  std::unique_ptr<LinkCommunicator> communicator_;
};

TEST_F(RawPeer, RubbishIsRefusedByNameAndTheSenderIsTold) {
  const std::vector<std::byte> rubbish(200, std::byte{0x5a});
  ASSERT_TRUE(peer_->Send(rubbish, Soon()).ok());
  const Status status = communicator_->Barrier(Soon());
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("receive from rank 1: read a frame"));
  auto last_words = peer_->Receive(Soon());
  ASSERT_TRUE(last_words.ok());
  // Its barrier may have left before.
  if (last_words->size() == kFrameHeaderBytes) last_words = peer_->Receive(Soon());
  ASSERT_TRUE(last_words.ok());
  const auto frame = ParseFrame(*last_words);
  ASSERT_TRUE(frame.ok());
  EXPECT_EQ(UnpackPart(frame->header.part).call, Call::kAbort);
}

// Barriers far ahead of the rank: they wait in a bounded queue, then in the link, then at the sender.
TEST_F(RawPeer, PeerThatRunsAheadWaitsAtItsOwnEndAndIsHeardInTurn) {
  int64_t sent = 0;
  while (peer_->Send(BarrierFrame(sent), Deadline::In(milliseconds(100))).ok()) ++sent;
  EXPECT_GE(sent, 10'000 / 80);
  EXPECT_LE(sent, 2 * 10'000 / 80 + 3);
  for (int64_t step = 0; step < sent; ++step) {
    ASSERT_TRUE(communicator_->Barrier(Soon()).ok()) << step;
    ASSERT_TRUE(peer_->Receive(Soon()).ok());  // its own, else there is no room for the next
  }
}

TEST_F(RawPeer, MessagesOfAnOlderViewAreDroppedAndCounted) {
  auto mesh = MakeMesh(transport_, 2);
  const auto peer = std::move(mesh[1][0]);
  const auto communicator = *LinkCommunicator::Open(std::move(mesh[0]), {.group = {.job = 7, .view = 1, .rank = 0, .size = 2}});
  ASSERT_TRUE(peer->Send(BarrierFrame(0), Soon()).ok());  // view 0
  ASSERT_TRUE(peer->Send(EncodeFrameHeader(
                             {.kind = FrameKind::kReduce, .job = 7, .view = 1, .part = Pack({.call = Call::kBarrier, .phase = 1})}, {}),
                         Soon())
                  .ok());
  ASSERT_TRUE(communicator->Barrier(Soon()).ok());
  EXPECT_EQ(communicator->dropped_of_older_views(), 1);
}

TEST_F(RawPeer, AbortFromAnotherThreadEndsTheOwnWait) {
  std::thread other([&] {
    std::this_thread::sleep_for(milliseconds(20));
    communicator_->Abort();
  });
  const Status status = communicator_->Barrier(Soon());
  other.join();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("rank 0 was aborted"));
}

}  // namespace
}  // namespace dtrain
