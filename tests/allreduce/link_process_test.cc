// Goal: a rank of a TCP ring that is killed or frozen at any moment leaves nobody hanging and no wrong sum behind. Method: forked
// ranks over loopback; SIGKILL and SIGSTOP after seeded times in the midst of sums.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <new>

#include "base/rng.h"
#include "cluster/tcp_transport.h"
#include "tests/allreduce/link_ranks.h"

namespace dtrain {
namespace {

// What the processes tell the test, in memory that all share. The message is written before `done`.
struct Board {
  struct Rank {
    std::atomic<int64_t> rounds;
    std::atomic<bool> done;
    int code;
    char message[512];
  };
  Rank ranks[8];
};

// Sums without end, each checked; every call has `wait`.
Status SumForever(LinkCommunicator& communicator, Duration wait, std::atomic<int64_t>& rounds) {
  const int size = communicator.size();
  for (int64_t round = 0;; ++round) {
    // In turn by the tree and round the ring.
    std::vector<int64_t> data(round % 2 == 0 ? 50 : 40'000, communicator.rank() + round);
    RETURN_IF_ERROR(communicator.AllReduce(std::span<int64_t>(data), Deadline::In(wait)));
    for (const int64_t sum : data) {
      if (sum != size * (size - 1) / 2 + size * round) return Internal("round ", round, ": wrong sum ", sum);
    }
    ++rounds;
  }
}

class TcpProcesses {
 public:
  TcpProcesses(int size, Duration wait) {
    void* memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    DTRAIN_CHECK(memory != MAP_FAILED);
    board_ = new (memory) Board{};
    TcpTransport transport;
    LinkMesh mesh = MakeMesh(transport, size);
    for (int rank = 0; rank < size; ++rank) {
      pids_.push_back(fork());
      if (pids_.back() != 0) continue;
      auto links = std::move(mesh[static_cast<size_t>(rank)]);
      mesh.clear();  // the ends of the others are theirs alone, so that they see them close
      Board::Rank& mine = board_->ranks[rank];
      const auto communicator = LinkCommunicator::Open(std::move(links), {.group = {.job = 5, .rank = rank, .size = size}});
      const Status status = communicator.ok() ? SumForever(**communicator, wait, mine.rounds) : communicator.status();
      mine.code = static_cast<int>(status.code());
      std::strncpy(mine.message, Message(status).c_str(), sizeof mine.message - 1);
      mine.done = true;
      _exit(0);
    }
  }
  ~TcpProcesses() {
    for (const pid_t pid : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    munmap(board_, sizeof(Board));
  }
  const Board::Rank& rank(int rank) const { return board_->ranks[rank]; }
  void Signal(int rank, int number) { kill(pids_[static_cast<size_t>(rank)], number); }
  bool Wait(const std::function<bool()>& until) {
    const Deadline deadline = Deadline::In(std::chrono::seconds(30));
    while (!until()) {
      if (deadline.Passed()) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return true;
  }

 private:
  Board* board_;
  std::vector<pid_t> pids_;
};

TEST(LinkProcesses, RankKilledAtAnyMomentIsNamedLongBeforeTheDeadline) {
  Rng rng(1, RngPurpose::kSynthetic);
  for (int round = 0; round < 20; ++round) {
    const int size = 2 + static_cast<int>(rng.Below(3)), victim = static_cast<int>(rng.Below(static_cast<uint64_t>(size)));
    TcpProcesses ranks(size, std::chrono::minutes(10));
    ASSERT_TRUE(ranks.Wait([&] { return ranks.rank(victim).rounds >= 6; }));
    std::this_thread::sleep_for(std::chrono::microseconds(rng.Below(3000)));
    ranks.Signal(victim, SIGKILL);
    for (int rank = 0; rank < size; ++rank) {
      if (rank == victim) continue;
      ASSERT_TRUE(ranks.Wait([&] { return ranks.rank(rank).done.load(); })) << "rank " << rank << " hangs";
      EXPECT_EQ(static_cast<StatusCode>(ranks.rank(rank).code), StatusCode::kUnavailable) << ranks.rank(rank).message;
      EXPECT_THAT(std::string(ranks.rank(rank).message), ::testing::HasSubstr(Cat("rank ", victim))) << "rank " << rank << " of " << size;
    }
  }
}

TEST(LinkProcesses, FrozenRankIsMissedByTheDeadlineAndFindsOnWakingThatTheOthersGaveUp) {
  TcpProcesses ranks(3, std::chrono::milliseconds(300));
  ASSERT_TRUE(ranks.Wait([&] { return ranks.rank(1).rounds >= 6; }));
  ranks.Signal(1, SIGSTOP);
  for (const int rank : {0, 2}) {
    ASSERT_TRUE(ranks.Wait([&] { return ranks.rank(rank).done.load(); })) << "rank " << rank << " hangs";
    EXPECT_THAT(static_cast<StatusCode>(ranks.rank(rank).code), ::testing::AnyOf(StatusCode::kDeadlineExceeded, StatusCode::kUnavailable))
        << ranks.rank(rank).message;
  }
  ranks.Signal(1, SIGCONT);
  ASSERT_TRUE(ranks.Wait([&] { return ranks.rank(1).done.load(); }));
  EXPECT_NE(ranks.rank(1).code, 0);
  EXPECT_NE(static_cast<StatusCode>(ranks.rank(1).code), StatusCode::kInternal) << ranks.rank(1).message;
}

}  // namespace
}  // namespace dtrain
