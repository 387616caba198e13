// Ranks as threads of the test, each with a mapping of its own of one segment, as processes would have it.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "allreduce/shm_communicator.h"
#include "base/check.h"

namespace dtrain {

inline Deadline Soon() { return Deadline::In(std::chrono::seconds(30)); }

class Segment {
 public:
  Segment() {
    const auto made = ShmCommunicator::MakeSegment();
    DTRAIN_CHECK(made.ok());
    fd_ = *made;
  }
  ~Segment() { close(fd_); }
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

using RankBody = std::function<Status(ShmCommunicator&)>;

// What each of `size` ranks ended with. `options` without rank and size.
inline std::vector<Status> RunRanks(int size, const ShmOptions& options, const RankBody& body) {
  const Segment segment;
  std::vector<Status> ended(size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      ShmOptions mine = options;
      mine.rank = rank;
      mine.size = size;
      const auto communicator = ShmCommunicator::Open(segment.fd(), mine, Soon());
      ended[rank] = communicator.ok() ? body(**communicator) : communicator.status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return ended;
}

inline void ExpectAllOk(const std::vector<Status>& ended) {
  for (size_t rank = 0; rank < ended.size(); ++rank) EXPECT_TRUE(ended[rank].ok()) << "rank " << rank << ": " << ended[rank];
}

}  // namespace dtrain
