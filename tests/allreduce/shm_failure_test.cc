// Goal: no wait outlives its deadline, an error says who is at fault, and once one rank has given up no other takes a
// barrier for complete. Method: ranks as threads; some come late, never, or for something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "allreduce/host_memory.h"
#include "tests/allreduce/thread_ranks.h"

namespace dtrain {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

Deadline InMs(int ms) { return Deadline::In(std::chrono::milliseconds(ms)); }

class Stopwatch {
 public:
  double seconds() const { return Seconds(SystemClock().Now() - begin_); }

 private:
  const TimePoint begin_ = SystemClock().Now();
};

TEST(ShmFailure, DeadlineNamesTheRanksThatDidNotCome) {
  std::atomic<int> gone = 0;
  const auto ended = RunRanks(4, {}, [&](ShmCommunicator& communicator) -> Status {
    if (communicator.rank() % 2 == 1) {
      while (gone < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return OkStatus();
    }
    // Rank 2 waits longer than rank 0: it learns that rank 0 has given up, at once.
    const Status status = communicator.Barrier(InMs(communicator.rank() == 0 ? 100 : 20'000));
    ++gone;
    return status;
  });
  EXPECT_EQ(ended[0].code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Message(ended[0]), "wait for the other ranks: ranks 1, 3 did not come in time");
  EXPECT_EQ(ended[2].code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(ended[2]), HasSubstr("rank 0 gave up"));
}

TEST(ShmFailure, LateRankDoesNotTakeTheCountOfOneThatLeftForComplete) {
  std::atomic<bool> left = false;
  const auto ended = RunRanks(2, {}, [&](ShmCommunicator& communicator) -> Status {
    if (communicator.rank() == 0) {
      const Status status = communicator.Barrier(InMs(20));
      left = true;
      return status;
    }
    while (!left) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return communicator.Barrier(Soon());
  });
  EXPECT_EQ(Message(ended[0]), "wait for the other ranks: rank 1 did not come in time");
  EXPECT_EQ(ended[1].code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(ended[1]), HasSubstr("rank 0 gave up"));
}

TEST(ShmFailure, RankThatGaveUpIsNotCountedTwiceWhenItComesAgain) {
  const auto ended = RunRanks(2, {}, [&](ShmCommunicator& communicator) -> Status {
    if (communicator.rank() == 1) return OkStatus();
    EXPECT_EQ(communicator.Barrier(InMs(20)).code(), StatusCode::kDeadlineExceeded);
    return communicator.Barrier(InMs(20));
  });
  EXPECT_EQ(ended[0].code(), StatusCode::kUnavailable);
}

TEST(ShmFailure, ErrorOfHealthEndsAWaitWithItsCauseAndTheOthersFollow) {
  std::atomic<bool> failed = false;
  std::atomic<int> ranks_out = 0;
  ShmOptions options;
  // Only the rank that asks while `failed` holds learns the cause from its own health; all do here.
  options.health = [&] {
    return failed ? WithExitCode(Unavailable("rank 2 died: killed by signal 9"), ExitCode::kRankFailed) : OkStatus();
  };
  const Stopwatch stopwatch;
  const auto ended = RunRanks(3, options, [&](ShmCommunicator& communicator) -> Status {
    if (communicator.rank() == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      failed = true;
      while (ranks_out < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return OkStatus();
    }
    const Status status = communicator.Barrier(Soon());
    ++ranks_out;
    return status;
  });
  for (const int rank : {0, 1}) {
    EXPECT_EQ(Message(ended[rank]), "rank 2 died: killed by signal 9");
    EXPECT_EQ(ExitCodeOf(ended[rank], ExitCode::kSetUp), ExitCode::kRankFailed);
  }
  EXPECT_LT(stopwatch.seconds(), 10);  // not the 30 s of the deadline
}

TEST(ShmFailure, AbortOfOneWakesAllAndLaterCallsFailAtOnce) {
  std::atomic<int> waiting = 0;
  const Stopwatch stopwatch;
  const auto ended = RunRanks(4, {}, [&](ShmCommunicator& communicator) -> Status {
    if (communicator.rank() == 3) {
      while (waiting < 3) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // they are asleep by now
      communicator.Abort();
      std::vector<float> data(10);
      return communicator.AllReduce(std::span<float>(data), Soon());
    }
    ++waiting;
    EXPECT_EQ(communicator.Barrier(Soon()).code(), StatusCode::kUnavailable);
    return communicator.Barrier(Soon());
  });
  for (const Status& status : ended) {
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(Message(status), HasSubstr("rank 3 gave up"));
  }
  EXPECT_LT(stopwatch.seconds(), 10);
}

TEST(ShmFailure, AbortFromAnotherThreadEndsTheOwnWait) {
  const auto ended = RunRanks(2, {}, [&](ShmCommunicator& communicator) -> Status {
    if (communicator.rank() == 1) return OkStatus();
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      communicator.Abort();
    });
    const Status status = communicator.Barrier(Soon());
    other.join();
    return status;
  });
  EXPECT_EQ(ended[0].code(), StatusCode::kUnavailable);
}

// Every pair of calls that differ in kind, root or size.
TEST(ShmFailure, RanksThatMakeDifferentCallsAreToldWhichAndWhat) {
  const std::vector<std::pair<std::string, RankBody>> calls = {
      {"Barrier", [](ShmCommunicator& c) { return c.Barrier(Soon()); }},
      {"Broadcast with 8 bytes to go from rank 0",
       [](ShmCommunicator& c) {
         std::vector<std::byte> data(8);
         return c.Broadcast(data, 0, Soon());
       }},
      {"Broadcast with 8 bytes to go from rank 1",
       [](ShmCommunicator& c) {
         std::vector<std::byte> data(8);
         return c.Broadcast(data, 1, Soon());
       }},
      {"Broadcast with 0 bytes to go from rank 0", [](ShmCommunicator& c) { return c.Broadcast({}, 0, Soon()); }},
      {"AllReduce of floats with 8 bytes to go",
       [](ShmCommunicator& c) {
         std::vector<float> data(2);
         return c.AllReduce(std::span<float>(data), Soon());
       }},
      {"AllReduce of floats with 12 bytes to go",
       [](ShmCommunicator& c) {
         std::vector<float> data(3);
         return c.AllReduce(std::span<float>(data), Soon());
       }},
      {"AllReduce of doubles with 8 bytes to go",
       [](ShmCommunicator& c) {
         std::vector<double> data(1);
         return c.AllReduce(std::span<double>(data), Soon());
       }},
      {"AllGather with 8 bytes to go",
       [](ShmCommunicator& c) {
         std::vector<std::byte> mine(8), all(16);
         return c.AllGather(mine, all, Soon());
       }},
  };
  for (size_t a = 0; a < calls.size(); ++a) {
    for (size_t b = 0; b < calls.size(); ++b) {
      if (a == b) continue;
      const auto ended =
          RunRanks(2, {}, [&](ShmCommunicator& communicator) { return calls[communicator.rank() == 0 ? a : b].second(communicator); });
      for (const int rank : {0, 1}) {
        EXPECT_EQ(ended[rank].code(), StatusCode::kInvalidArgument)
            << calls[a].first << " against " << calls[b].first << ": " << ended[rank];
        EXPECT_THAT(Message(ended[rank]), HasSubstr("called " + calls[a].first));
        EXPECT_THAT(Message(ended[rank]), HasSubstr("called " + calls[b].first));
      }
    }
  }
}

TEST(ShmOpen, RanksThatDisagreeOnTheSizesAreRefused) {
  const std::vector<ShmOptions> others = {
      {.size = 3, .rank_region_bytes = 100, .shared_region_bytes = 100},
      {.size = 2, .rank_region_bytes = 5000, .shared_region_bytes = 100},
      {.size = 2, .rank_region_bytes = 101, .shared_region_bytes = 100},  // as many pages
      {.size = 2, .rank_region_bytes = 100, .shared_region_bytes = 4000},
  };
  for (ShmOptions other : others) {
    const Segment segment;
    other.rank = 1;
    Status ended;
    std::thread thread([&] { ended = ShmCommunicator::Open(segment.fd(), other, Soon()).status(); });
    const ShmOptions first = {.rank = 0, .size = 2, .rank_region_bytes = 100, .shared_region_bytes = 100};
    const Status waited = ShmCommunicator::Open(segment.fd(), first, InMs(50)).status();
    thread.join();
    EXPECT_EQ(ended.code(), StatusCode::kInvalidArgument) << ended;
    EXPECT_THAT(Message(ended), HasSubstr("expected"));
    EXPECT_EQ(waited.code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(Message(waited), HasSubstr("rank 1 did not come in time"));
  }
}

TEST(ShmOpen, RankOutOfRangeOrUsedSegmentIsRefused) {
  const Segment segment;
  for (const ShmOptions& options :
       {ShmOptions{.rank = 2, .size = 2}, ShmOptions{.rank = -1, .size = 2}, ShmOptions{.size = 0}, ShmOptions{.size = 65}}) {
    EXPECT_EQ(ShmCommunicator::Open(segment.fd(), options, Soon()).status().code(), StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(ShmCommunicator::Open(segment.fd(), {}, Soon()).ok());
  EXPECT_THAT(Message(ShmCommunicator::Open(segment.fd(), {}, Soon()).status()), HasSubstr("expected a fresh one"));
  EXPECT_EQ(ShmCommunicator::Open(-1, {}, Soon()).status().code(), StatusCode::kInvalidArgument);
}

TEST(ShmOpen, RankZeroThatNeverComesIsMissedByTheDeadlineOrByHealth) {
  const Segment segment;
  const Status late = ShmCommunicator::Open(segment.fd(), {.rank = 1, .size = 2}, InMs(20)).status();
  EXPECT_EQ(late.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Message(late), HasSubstr("rank 0 did not size it in time"));
  const ShmOptions sick = {.rank = 1, .size = 2, .health = [] { return Unavailable("rank 0 died"); }};
  EXPECT_EQ(Message(ShmCommunicator::Open(segment.fd(), sick, Soon()).status()), "rank 0 died");
}

// The limit on file sizes is a net: without the check that is tested here the kernel would kill what else runs.
TEST(ShmOpen, MoreMemoryThanTheHostHasIsRefusedBeforeAnyIsTaken) {
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit net = {64 << 20, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &net);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const Segment segment;
  const Status status = ShmCommunicator::Open(segment.fd(), {.rank_region_bytes = int64_t{1} << 50}, Soon()).status();
  signal(SIGXFSZ, handler);
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(Message(status), HasSubstr("reserve 1126 TB of shared memory for 1 ranks: only "));
  EXPECT_THAT(Message(status), HasSubstr(" are free\n  Hint: use fewer ranks"));
}

class HostMemory : public ::testing::Test {
 protected:
  HostMemory() {
    std::string name = ::testing::TempDir() + "host_memory_XXXXXX";
    root_ = mkdtemp(name.data());
  }
  ~HostMemory() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

TEST_F(HostMemory, IsWhatTheHostHasOrTheContainerLeavesWhicheverIsLess) {
  EXPECT_EQ(AvailableMemoryBytes(root_), INT64_MAX);  // nobody says
  Write("/proc/meminfo", "MemTotal:       24684096 kB\nMemFree:        100 kB\nMemAvailable:   2000 kB\nBuffers: 5 kB\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 2'048'000);
  Write("/sys/fs/cgroup/memory.max", "max\n");
  Write("/sys/fs/cgroup/memory.current", "900000\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 2'048'000);
  Write("/sys/fs/cgroup/memory.max", "1000000\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 100'000);
  Write("/sys/fs/cgroup/memory.stat", "anon 300000\ninactive_file 50000\nactive_file 1\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 150'000);
  Write("/sys/fs/cgroup/memory.current", "1200000\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 0);
}

TEST_F(HostMemory, KnowsTheFirstVersionOfCgroupsToo) {
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n");
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "400\n");
  Write("/sys/fs/cgroup/memory/memory.stat", "cache 7\ntotal_inactive_file 100\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 700);
}

}  // namespace
}  // namespace dtrain
