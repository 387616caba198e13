// Goal: one process at a time has a run directory, whoever is refused learns who has it, and a lock dies with its holder.
// Method: a second lock in this process and in a forked one; a holder that is killed.
#include "trainer/storage/directory_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/text.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

class DirectoryLockTest : public ::testing::Test {
 protected:
  DirectoryLockTest() {
    std::string name = ::testing::TempDir() + "dtrain_lock_XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~DirectoryLockTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(DirectoryLockTest, SecondHolderIsRefusedAndToldWhoTheFirstIs) {
  auto first = DirectoryLock::Acquire(folder_);
  ASSERT_TRUE(first.ok()) << first.status();
  const Status second = DirectoryLock::Acquire(folder_).status();
  EXPECT_EQ(second.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(second), HasSubstr(Cat("lock ", folder_, ": process ", getpid(), " on ")));
  EXPECT_THAT(Message(second), HasSubstr("Hint: "));
}

TEST_F(DirectoryLockTest, LockIsFreeOnceItsHolderIsGoneAlsoAfterItMoved) {
  {
    auto first = DirectoryLock::Acquire(folder_);
    ASSERT_TRUE(first.ok());
    DirectoryLock moved = *std::move(first);
    EXPECT_FALSE(DirectoryLock::Acquire(folder_).ok());
  }
  EXPECT_TRUE(DirectoryLock::Acquire(folder_).ok());
}

TEST_F(DirectoryLockTest, LockOfAKilledProcessIsFree) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  if (holder == 0) {
    const auto lock = DirectoryLock::Acquire(folder_);
    const char answer = lock.ok() ? 'y' : 'n';
    if (write(ready[1], &answer, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  EXPECT_THAT(Message(DirectoryLock::Acquire(folder_).status()), HasSubstr(Cat("process ", holder, " on ")));
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  EXPECT_TRUE(DirectoryLock::Acquire(folder_).ok());
}

TEST_F(DirectoryLockTest, DirectoryThatIsAbsentIsNamed) {
  const Status status = DirectoryLock::Acquire(folder_ + "/absent").status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(status), HasSubstr(folder_ + "/absent/.lock"));
}

}  // namespace
}  // namespace dtrain
