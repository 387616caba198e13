// Goal: ranks that mpirun started find rank 0 by one broadcast, or all hear why not, and none hangs. Method: real mpirun, a
// small program as the rank (mpi_test_rank.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>

#include "base/clock.h"
#include "base/digest.h"
#include "base/text.h"

namespace dtrain {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class MpiTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v mpirun > /dev/null 2>&1") != 0) GTEST_SKIP() << "mpirun is not installed";
    directory_ = Cat(testing::TempDir(), "/dtrain-mpi-", Hex(SecureRandom()).substr(0, 12));
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // Output of all, and mpirun's exit code.
  std::pair<std::string, int> Run(const std::string& how) {
    const std::string command = Cat("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 60 mpirun --oversubscribe -n 3 ",
                                    TEST_RANK, " ", how, " ", directory_, " 2>&1 < /dev/null");
    FILE* pipe = popen(command.c_str(), "r");
    std::string output;
    char buffer[4096];
    while (const size_t count = fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, count);
    const int status = pclose(pipe);
    return {output, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
  }
  std::string directory_;
};

TEST_F(MpiTest, RanksOfMpirunBecomeOneJob) {
  const auto [output, code] = Run("ok");
  EXPECT_EQ(code, 0) << output;
  for (int rank = 0; rank < 3; ++rank) EXPECT_THAT(output, HasSubstr(Cat("rank ", rank, " train this 0/0,1/1,2/2\n")));
}

TEST_F(MpiTest, AllHearWhyRank0CannotHoldTheJob) {
  const auto [output, code] = Run("no-host");
  EXPECT_EQ(code, 4) << output;
  // mpirun ends the others once the first is gone, so not all of them need to have come to say it.
  EXPECT_THAT(output, HasSubstr("meet the others by MPI: "));
  EXPECT_THAT(output, HasSubstr("the disk is full"));
}

TEST_F(MpiTest, AnotherMpisNumbersAreNoticed) {
  const auto [output, code] = Run("wrong-world");
  EXPECT_EQ(code, 4) << output;
  EXPECT_THAT(output, AllOf(HasSubstr("the environment says rank "), HasSubstr(" of 4, MPI says rank "), HasSubstr("of the same MPI")));
}

TEST_F(MpiTest, ARankThatDoesNotComeHangsNobody) {
  const TimePoint start = SystemClock().Now();
  const auto [output, code] = Run("hang");
  EXPECT_EQ(code, 4) << output;
  EXPECT_THAT(output, HasSubstr("MPI did not bring the ranks together within its deadline"));
  EXPECT_LT(SystemClock().Now() - start, std::chrono::seconds(30));
}

}  // namespace
}  // namespace dtrain
