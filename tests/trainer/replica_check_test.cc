// Goal: equal replicas pass; of unequal ones every rank learns which rank and tensor. Method: ranks are threads; one flips a bit.
#include "trainer/replica_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/trainer/thread_channel.h"

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ReplicaCheck, NamesRankAndFirstTensorThatDiffer) {
  constexpr int kRanks = 3;
  std::vector<TensorInfo> tensors;
  for (int i = 0; i < 10'000; ++i) tensors.push_back({Cat("t", i), DType::kF32, {3}});  // more than one message
  const FlatLayout layout = MakeFlatLayout(tensors);
  const HostGroup hosts{.host_of = {"a", "b", "c"}, .local_rank = 0, .local_size = 1};
  for (const int culprit : {-1, 2}) {
    Meeting meeting(kRanks);
    std::vector<Status> ended(kRanks);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < kRanks; ++rank) {
      threads.emplace_back([&, rank] {
        ThreadChannel channel(meeting, rank);
        std::vector<float> parameters(layout.elements, 0.5f);
        if (rank == culprit) {
          for (const int tensor : {9'001, 9'500}) parameters[layout.entries[tensor].offset + 2] = 0.50000006f;
        }
        ended[rank] = CompareReplicas(channel, hosts, layout, parameters, 7, Deadline::In(std::chrono::seconds(20)));
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Status& status : ended) {
      EXPECT_EQ(status.ok(), culprit < 0) << status;
      if (culprit < 0) continue;
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("step 7"), HasSubstr("rank 2 on c: t9001"), Not(HasSubstr("t9500")), Not(HasSubstr("rank 1"))));
    }
  }
}

}  // namespace
}  // namespace dtrain
