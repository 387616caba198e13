// Goal: between processes the collectives give what they give between threads, and a rank that is killed at any moment
// leaves nobody hanging. Method: forked ranks; SIGKILL after seeded times in the midst of barriers and sums.
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
#include "tests/allreduce/thread_ranks.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

// What the processes tell the test, in memory that all share. The message is written before `done`.
struct Board {
  struct Rank {
    std::atomic<int64_t> rounds;
    std::atomic<bool> done;
    int code;
    char message[512];
  };
  std::atomic<bool> failed;  // the job's health
  Rank ranks[8];
};

class ProcessRanks {
 public:
  ProcessRanks(int size, bool with_health, const std::function<Status(ShmCommunicator&, Board::Rank&)>& body) {
    void* memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    DTRAIN_CHECK(memory != MAP_FAILED);
    board_ = new (memory) Board{};
    for (int rank = 0; rank < size; ++rank) {
      pids_.push_back(fork());
      if (pids_.back() != 0) continue;
      ShmOptions options = {.rank = rank, .size = size};
      if (with_health) options.health = [this] { return board_->failed ? Unavailable("a rank was killed") : OkStatus(); };
      const auto communicator = ShmCommunicator::Open(segment_.fd(), options, Soon());
      Board::Rank& mine = board_->ranks[rank];
      const Status status = communicator.ok() ? body(**communicator, mine) : communicator.status();
      mine.code = static_cast<int>(status.code());
      std::strncpy(mine.message, Message(status).c_str(), sizeof mine.message - 1);
      mine.done = true;
      _exit(0);
    }
  }
  ~ProcessRanks() {
    for (const pid_t pid : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    munmap(board_, sizeof(Board));
  }

  Board& board() { return *board_; }
  void Kill(int rank) { kill(pids_[rank], SIGKILL); }
  void Freeze(int rank) { kill(pids_[rank], SIGSTOP); }
  void Thaw(int rank) { kill(pids_[rank], SIGCONT); }
  bool WaitDone(int rank, Deadline deadline) {
    while (!board_->ranks[rank].done) {
      if (deadline.Passed()) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  void WaitRounds(int rank, int64_t rounds) {
    const Deadline deadline = Soon();
    while (board_->ranks[rank].rounds < rounds && !deadline.Passed()) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }

 private:
  const Segment segment_;
  Board* board_;
  std::vector<pid_t> pids_;
};

TEST(ShmProcesses, SumsBroadcastsAndGathersAreRight) {
  for (const int size : {1, 2, 3, 4, 8}) {
    ProcessRanks ranks(size, false, [size](ShmCommunicator& communicator, Board::Rank&) -> Status {
      for (int64_t count : {1, 1000, 70'000}) {
        std::vector<float> data(count);
        for (int64_t i = 0; i < count; ++i) data[i] = static_cast<float>(i % 1000 * (communicator.rank() + 1));
        RETURN_IF_ERROR(communicator.AllReduce(std::span<float>(data), Soon()));
        for (int64_t i = 0; i < count; ++i) {
          if (data[i] != static_cast<float>(i % 1000 * size * (size + 1) / 2)) return Internal("sum ", i, " is ", data[i]);
        }
        std::vector<std::byte> word(count, static_cast<std::byte>(communicator.rank() + 1)), all(count * size);
        RETURN_IF_ERROR(communicator.AllGather(word, all, Soon()));
        for (int64_t i = 0; i < count * size; ++i) {
          if (all[i] != static_cast<std::byte>(i / count + 1)) return Internal("gathered ", i);
        }
        RETURN_IF_ERROR(communicator.Broadcast(word, size - 1, Soon()));
        if (word.back() != static_cast<std::byte>(size)) return Internal("broadcast");
      }
      return OkStatus();
    });
    for (int rank = 0; rank < size; ++rank) {
      ASSERT_TRUE(ranks.WaitDone(rank, Soon())) << "rank " << rank << " hangs";
      EXPECT_EQ(ranks.board().ranks[rank].code, 0) << "rank " << rank << ": " << ranks.board().ranks[rank].message;
    }
  }
}

// Barriers and sums without end, with the deadline of each.
std::function<Status(ShmCommunicator&, Board::Rank&)> Loop(Duration deadline) {
  return [deadline](ShmCommunicator& communicator, Board::Rank& mine) -> Status {
    std::vector<double> data(3000);
    for (;;) {
      RETURN_IF_ERROR(communicator.Barrier(Deadline::In(deadline)));
      RETURN_IF_ERROR(communicator.AllReduce(std::span<double>(data), Deadline::In(deadline)));
      ++mine.rounds;
    }
  };
}

// Short for who waits it out, long for a machine that is busy with something else.
constexpr Duration kShort = std::chrono::milliseconds(1500);

TEST(ShmProcesses, RankKilledAtAnyMomentIsMissedByTheDeadlineOnAllOthers) {
  Rng rng(1, RngPurpose::kSynthetic);
  for (int round = 0; round < 3; ++round) {
    const int size = 2 + static_cast<int>(rng.Below(3)), victim = static_cast<int>(rng.Below(static_cast<uint64_t>(size)));
    ProcessRanks ranks(size, false, Loop(kShort));
    ranks.WaitRounds(victim, 20);
    std::this_thread::sleep_for(std::chrono::microseconds(rng.Below(3000)));
    ranks.Kill(victim);
    bool named = false;
    for (int rank = 0; rank < size; ++rank) {
      if (rank == victim) continue;
      ASSERT_TRUE(ranks.WaitDone(rank, Soon())) << "rank " << rank << " hangs";
      const Board::Rank& ended = ranks.board().ranks[rank];
      // The first by its deadline, the others by that one's giving up.
      EXPECT_THAT(static_cast<StatusCode>(ended.code), ::testing::AnyOf(StatusCode::kDeadlineExceeded, StatusCode::kUnavailable))
          << ended.message;
      const std::string message = ended.message;
      named = named || message.find(Cat("rank ", victim, " did not come")) != std::string::npos ||
              message.find("the last to come ended") != std::string::npos;
    }
    EXPECT_TRUE(named) << "nobody named rank " << victim;
  }
}

TEST(ShmProcesses, RankKilledAtAnyMomentIsNoticedThroughHealthLongBeforeTheDeadline) {
  Rng rng(2, RngPurpose::kSynthetic);
  for (int round = 0; round < 6; ++round) {
    const int size = 2 + static_cast<int>(rng.Below(3)), victim = static_cast<int>(rng.Below(static_cast<uint64_t>(size)));
    ProcessRanks ranks(size, true, Loop(std::chrono::minutes(10)));
    ranks.WaitRounds(victim, 20);
    std::this_thread::sleep_for(std::chrono::microseconds(rng.Below(3000)));
    ranks.Kill(victim);
    ranks.board().failed = true;
    for (int rank = 0; rank < size; ++rank) {
      if (rank == victim) continue;
      ASSERT_TRUE(ranks.WaitDone(rank, Soon())) << "rank " << rank << " hangs";
      EXPECT_EQ(static_cast<StatusCode>(ranks.board().ranks[rank].code), StatusCode::kUnavailable);
    }
  }
}

TEST(ShmProcesses, FrozenRankIsMissedByTheDeadlineAndFindsOnWakingThatTheOthersLeft) {
  ProcessRanks ranks(2, false, Loop(kShort));
  ranks.WaitRounds(1, 20);
  ranks.Freeze(1);
  ASSERT_TRUE(ranks.WaitDone(0, Soon()));
  EXPECT_EQ(static_cast<StatusCode>(ranks.board().ranks[0].code), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(ranks.board().ranks[0].message, HasSubstr("rank 1 did not come in time"));
  ranks.Thaw(1);
  ASSERT_TRUE(ranks.WaitDone(1, Soon()));
  EXPECT_EQ(static_cast<StatusCode>(ranks.board().ranks[1].code), StatusCode::kUnavailable) << ranks.board().ranks[1].message;
}

}  // namespace
}  // namespace dtrain
