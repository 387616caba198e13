// A JobChannel among threads of a test.
#pragma once
#include <gtest/gtest.h>

#include <barrier>
#include <string>
#include <vector>

#include "cluster/messages.h"
#include "trainer/job_channel.h"

namespace dtrain {

// AllGather among threads; the rest says nothing.
struct Meeting {
  explicit Meeting(int ranks) : size(ranks), parts(ranks), barrier(ranks) {}
  int size;
  std::vector<std::string> parts;
  std::barrier<> barrier;
};

class ThreadChannel final : public SoloChannel {
 public:
  ThreadChannel(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
  int rank() const override { return rank_; }
  int world_size() const override { return meeting_.size; }
  StatusOr<std::vector<std::string>> AllGather(std::string_view, std::string_view mine, Deadline) override {
    EXPECT_LE(mine.size(), kGatherPartBytesMax);
    meeting_.parts[rank_] = mine;
    meeting_.barrier.arrive_and_wait();
    auto all = meeting_.parts;
    meeting_.barrier.arrive_and_wait();
    return all;
  }

 private:
  Meeting& meeting_;
  int rank_;
};

}  // namespace dtrain
