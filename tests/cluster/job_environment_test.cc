// Goal: a rank understands what the launcher wrote, and says which variable it does not understand. Method: the real
// environment of this process.
#include "cluster/job_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

namespace dtrain {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class JobEnvironmentTest : public testing::Test {
 protected:
  void SetUp() override { Clear(); }
  void TearDown() override { Clear(); }
  static void Clear() {
    for (const char* name :
         {"DTRAIN_RANK", "DTRAIN_WORLD_SIZE", "DTRAIN_COORDINATOR", "DTRAIN_TOKEN", "DTRAIN_SEGMENT_FD", "DTRAIN_DEADLINE_MS"}) {
      unsetenv(name);
    }
  }
  static void Put(const JobEnvironment& job) {
    for (const std::string& variable : ToEnvironment(job)) {
      const size_t equals = variable.find('=');
      setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
    }
  }
  static std::string Refusal() {
    const auto job = ReadJobEnvironment();
    EXPECT_EQ(job.status().code(), StatusCode::kFailedPrecondition);
    return Message(job.status());
  }
  const JobEnvironment job_{2, 4, {"127.0.0.1", 29'500}, "secret", -1, std::chrono::milliseconds(750)};
};

TEST_F(JobEnvironmentTest, ComesBackAsItWasWritten) {
  EXPECT_FALSE(StartedAsRank());
  JobEnvironment with_segment = job_;
  with_segment.segment_fd = 1;
  Put(with_segment);
  EXPECT_TRUE(StartedAsRank());
  const auto job = ReadJobEnvironment();
  ASSERT_TRUE(job.ok()) << job.status().message();
  EXPECT_EQ(job->rank, 2);
  EXPECT_EQ(job->world_size, 4);
  EXPECT_EQ(job->coordinator.host, "127.0.0.1");
  EXPECT_EQ(job->coordinator.port, 29'500);
  EXPECT_EQ(job->token, "secret");
  EXPECT_EQ(job->segment_fd, 1);
  EXPECT_EQ(job->deadline, std::chrono::milliseconds(750));
  EXPECT_EQ(getenv("DTRAIN_TOKEN"), nullptr) << "a child of the rank would inherit the token";
}

TEST_F(JobEnvironmentTest, EachMissingVariableIsNamed) {
  for (const char* name : {"DTRAIN_RANK", "DTRAIN_WORLD_SIZE", "DTRAIN_COORDINATOR", "DTRAIN_TOKEN", "DTRAIN_DEADLINE_MS"}) {
    Put(job_);
    unsetenv(name);
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(Cat(name, " is not set")), HasSubstr("Hint"))) << name;
  }
}

TEST_F(JobEnvironmentTest, WhatIsMalformedOrContradictoryIsNamed) {
  const auto with = [&](const char* name, const char* value) {
    Put(job_);
    setenv(name, value, 1);
    const std::string refusal = Refusal();
    unsetenv(name);
    return refusal;
  };
  EXPECT_THAT(with("DTRAIN_RANK", "4"), HasSubstr("DTRAIN_RANK is 4, expected less than DTRAIN_WORLD_SIZE, which is 4"));
  EXPECT_THAT(with("DTRAIN_RANK", "-1"), HasSubstr("DTRAIN_RANK is \"-1\""));
  EXPECT_THAT(with("DTRAIN_RANK", "1x"), HasSubstr("DTRAIN_RANK is \"1x\""));
  EXPECT_THAT(with("DTRAIN_WORLD_SIZE", "0"), HasSubstr("DTRAIN_WORLD_SIZE is \"0\""));
  EXPECT_THAT(with("DTRAIN_DEADLINE_MS", "0"), HasSubstr("DTRAIN_DEADLINE_MS"));
  for (const char* address : {"localhost", ":80", "host:0", "host:65536", "host:x"}) {
    EXPECT_THAT(with("DTRAIN_COORDINATOR", address), AllOf(HasSubstr("DTRAIN_COORDINATOR"), HasSubstr(address)));
  }
  EXPECT_THAT(with("DTRAIN_SEGMENT_FD", "987"), HasSubstr("DTRAIN_SEGMENT_FD is 987, but no such descriptor is open"));
}

}  // namespace
}  // namespace dtrain
