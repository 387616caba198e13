// Goal: loops really run on several threads of LibTorch's pool, and cover every index once. Method: two parts that wait for each
// other would never end on one thread.
#include "trainer/torch_parallel.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>

namespace dtrain {
namespace {

TEST(TorchParallelFor, RunsOnTheThreadsOfThePool) {
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  const ParallelFor parallel_for = TorchParallelFor();
  std::atomic<int> here = 0;
  std::atomic<bool> both = false;
  const Deadline deadline = Deadline::In(std::chrono::seconds(10));
  parallel_for(2, 1, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(end, begin + 1);
    ++here;
    while (here < 2 && !deadline.Passed()) {
    }
    if (here == 2) both = true;
  });
  EXPECT_TRUE(both);
  std::vector<int> visits(1000);
  parallel_for(1000, 10, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++visits[i];
  });
  EXPECT_EQ(visits, std::vector<int>(1000, 1));
  at::set_num_threads(before);
}

}  // namespace
}  // namespace dtrain
