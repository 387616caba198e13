// Goal: on the machine's own files too, a save that is killed at any system call, or that runs out of disk, costs no
// checkpoint. Method: strace kills the program at the n-th call of each kind, for every n that there is; a small tmpfs with
// room for less and less. Both skip, with the reason, where the machine does not allow it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/log.h"
#include "tests/trainer/checkpoint/sample_checkpoint.h"
#include "trainer/storage/posix_storage.h"

extern char** environ;

namespace dtrain {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CrashTest : public ::testing::Test {
 protected:
  CrashTest() {
    SetLogSink([](LogLevel, std::string_view) {});
    std::string name = ::testing::TempDir() + "dtrain_crash_XXXXXX";
    root_ = mkdtemp(name.data());
    std::string in_memory = "/dev/shm/dtrain_crash_XXXXXX";
    memory_ = mkdtemp(in_memory.data()) != nullptr ? in_memory : root_;
  }
  ~CrashTest() override {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
    fs::remove_all(memory_, ignored);
  }
  std::vector<Step> Steps(const std::string& run) {
    const CheckpointStore store(PosixStorage(), run, {});
    const auto infos = store.List();
    EXPECT_TRUE(infos.ok()) << infos.status();
    std::vector<Step> steps;
    for (const auto& info : *infos) {
      EXPECT_TRUE(info.complete()) << info.path << ": " << info.damage;
      steps.push_back(info.step);
    }
    return steps;
  }
  std::string root_, memory_;
};

// How a program ended: its exit code, or minus the signal that ended it.
int Execute(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  for (const int descriptor : {STDOUT_FILENO, STDERR_FILENO})
    posix_spawn_file_actions_addopen(&quiet, descriptor, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &quiet, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&quiet);
  if (error != 0) return 127;
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

std::vector<std::string> Strace(const std::string& inject, const std::vector<std::string>& program) {
  std::vector<std::string> arguments = {
      "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + inject.substr(0, inject.find(':')), "-e", "inject=" + inject};
  arguments.insert(arguments.end(), program.begin(), program.end());
  return arguments;
}

TEST_F(CrashTest, SaveKilledAtAnySystemCallLeavesTheOneBeforeOrTheNewOne) {
#ifdef DTRAIN_SANITIZED
  GTEST_SKIP() << "a program with sanitizers makes thousands of calls of its own";
#endif
  if (Execute({"strace", "-qq", "-o", "/dev/null", "-e", "trace=none", "true"}) != 0)
    GTEST_SKIP() << "strace is absent or ptrace is not allowed here";
  // In memory where that is possible: what a kill leaves does not depend on the disk, and there fsync costs nothing.
  const std::string before = memory_ + "/before", run = memory_ + "/run";
  CheckpointStore set_up(PosixStorage(), before, {.keep_last = 2});
  for (const Step step : {1, 2}) ASSERT_TRUE(set_up.Save(LargeCheckpoint(step, 8)).ok());
  int old = 0, fresh = 0;
  // Those that change a directory or a file; the program is killed at the entry of the call.
  for (const char* call : {"write", "fsync", "rename", "mkdir", "openat", "unlinkat", "unlink", "rmdir"}) {
    for (int nth = 1;; ++nth) {
      fs::remove_all(run);
      fs::copy(before, run, fs::copy_options::recursive);
      const int ended = Execute(Strace(Cat(call, ":signal=KILL:when=", nth), {CRASH_PROGRAM, "save", run, "3", "3", "8"}));
      if (ended == 0) break;  // there is no such call any more
      ASSERT_TRUE(ended == -SIGKILL || ended == 128 + SIGKILL) << call << " " << nth << ": ended with " << ended;
      const std::string where = Cat("killed at ", call, " number ", nth);
      const auto steps = Steps(run);
      ASSERT_FALSE(steps.empty()) << where;
      ASSERT_TRUE(steps.back() == 2 || steps.back() == 3) << where << ": the newest is " << steps.back();
      ++(steps.back() == 2 ? old : fresh);
      CheckpointStore store(PosixStorage(), run, {.keep_last = 2});
      const auto newest = store.LoadNewest();
      ASSERT_TRUE(newest.ok() && newest->has_value()) << where << ": " << newest.status();
      ASSERT_EQ(Describe(**newest), Describe(LargeCheckpoint(steps.back(), 8))) << where;
      // The next process clears away what was left, and goes on.
      const Status saved = store.Save(LargeCheckpoint(4, 8));
      ASSERT_TRUE(saved.ok()) << where << ": " << saved;
      EXPECT_THAT(Steps(run), ElementsAre(steps.back(), 4)) << where;
      for (const auto& entry : fs::directory_iterator(run + "/checkpoints"))
        EXPECT_TRUE(entry.path().extension().empty()) << where << ": " << entry;
    }
  }
  EXPECT_GT(old, 40);
  EXPECT_GT(fresh, 8);
}

// A file system of its own, gone with the test.
class SmallDisk {
 public:
  SmallDisk(std::string at, const std::string& size) : at_(std::move(at)) {
    fs::create_directories(at_);
    mounted_ = ::mount("tmpfs", at_.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
    error_ = errno;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(at_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const char* error() const { return std::strerror(error_); }

 private:
  const std::string at_;
  bool mounted_;
  int error_;
};

TEST_F(CrashTest, FullDiskIsAClearErrorAndCostsNoCheckpoint) {
  const SmallDisk disk(root_ + "/disk", "256k");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs is not allowed here: " << disk.error();
  const std::string run = root_ + "/disk/run", filler = root_ + "/disk/filler";
  CheckpointStore store(PosixStorage(), run, {.keep_last = 2});
  for (const Step step : {1, 2}) {
    const Status status = store.Save(SampleCheckpoint(step));
    ASSERT_TRUE(status.ok()) << status;
  }
  int refused = 0;
  for (int pages_left = 0;; ++pages_left) {
    std::error_code ignored;
    fs::remove(filler, ignored);
    const auto room = static_cast<int64_t>(fs::space(root_ + "/disk").available) / 4096;
    ASSERT_GT(room, pages_left);
    const int descriptor = ::open(filler.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_EQ(::posix_fallocate(descriptor, 0, (room - pages_left) * 4096), 0);
    ::close(descriptor);
    const Status status = store.Save(SampleCheckpoint(3));
    if (status.ok()) break;
    ++refused;
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(Message(status), HasSubstr("save " + run + "/checkpoints/step-000003: "));
    EXPECT_THAT(Message(status), HasSubstr("No space left on device"));
    EXPECT_THAT(Message(status), HasSubstr("Hint: make room on the disk"));
    const auto newest = store.LoadNewest();
    ASSERT_TRUE(newest.ok()) << newest.status();
    EXPECT_EQ(Describe(**newest), Describe(SampleCheckpoint((*newest)->step)));
    // 3 is there in full if the disk filled up only when LATEST was to move.
    const auto steps = Steps(run);
    ASSERT_GE(steps.size(), 2u);
    EXPECT_EQ(steps[1], 2);
  }
  EXPECT_GE(refused, 3);
  EXPECT_THAT(Steps(run), ElementsAre(2, 3));
}

TEST_F(CrashTest, DirectoryThatMayNotBeWrittenIsAClearError) {
  if (::geteuid() == 0) {
    // root may write everywhere; a file in the way stops root too.
    ASSERT_TRUE(PosixStorage().Create(root_ + "/file").ok());
    CheckpointStore store(PosixStorage(), root_ + "/file", {});
    const Status status = store.Save(SampleCheckpoint(1));
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(Message(status), HasSubstr("Not a directory"));
    return;
  }
  fs::create_directory(root_ + "/sealed");
  fs::permissions(root_ + "/sealed", fs::perms::owner_read | fs::perms::owner_exec);
  CheckpointStore store(PosixStorage(), root_ + "/sealed/run", {});
  EXPECT_EQ(store.Save(SampleCheckpoint(1)).code(), StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace dtrain
