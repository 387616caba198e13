// Goal: what libraries log reaches the program's sink, whole lines from any thread. Method: a sink that collects.
#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/text.h"

namespace dtrain {
namespace {

TEST(Log, MessagesOfAllThreadsReachTheSinkWithTheirLevel) {
  std::vector<std::string> seen;
  SetLogSink([&](LogLevel level, std::string_view message) { seen.push_back(Cat(static_cast<int>(level), message)); });
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([thread] {
      for (int i = 0; i < 100; ++i) Log(LogLevel::kWarning, Cat(" from ", thread));
    });
  }
  for (std::thread& thread : threads) thread.join();
  SetLogSink([](LogLevel, std::string_view) {});
  EXPECT_EQ(seen.size(), 400u);
  for (int thread = 0; thread < 4; ++thread) EXPECT_EQ(std::count(seen.begin(), seen.end(), Cat("2 from ", thread)), 100);
}

TEST(CheckDeathTest, ConditionThatDoesNotHoldEndsTheProgramAndSaysWhere) {
  EXPECT_DEATH(CheckFailed("a == b", "base/x.cc", 7), "internal error at base/x.cc:7: a == b does not hold");
}

}  // namespace
}  // namespace dtrain
