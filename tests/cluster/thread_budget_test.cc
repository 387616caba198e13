// Goal: ranks share the cores of their host. Method: the rule by hand; the cores against the machine's own count.
#include "cluster/thread_budget.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace dtrain {
namespace {

TEST(ThreadBudget, CoresAreSharedAndReproducibleIsOne) {
  EXPECT_EQ(ThreadsPerRank(8, 1, false), 8);
  EXPECT_EQ(ThreadsPerRank(8, 3, false), 2);
  EXPECT_EQ(ThreadsPerRank(2, 4, false), 1);
  EXPECT_EQ(ThreadsPerRank(8, 1, true), 1);
}

TEST(ThreadBudget, TheAffinityMaskIsRespected) {
  EXPECT_GE(UsableCores(), 1);
  EXPECT_LE(UsableCores(), static_cast<int>(std::thread::hardware_concurrency()));
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  for (int core = 0; core < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++core) {
    if (CPU_ISSET(core, &before)) CPU_SET(core, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(UsableCores(), 1);
  sched_setaffinity(0, sizeof before, &before);
}

}  // namespace
}  // namespace dtrain
