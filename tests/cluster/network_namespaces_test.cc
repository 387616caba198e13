// Goal: ranks on several hosts, each with an address and a loopback of its own, become one job with a mesh. Method: a network
// namespace for each host, joined by a bridge in a fourth; in each a process as somebody would start it there
// (rendezvous_test_rank.cc). Needs the right to make namespaces; skipped, with the reason, where that is missing.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/clock.h"
#include "base/digest.h"
#include "base/text.h"
#include "cluster/file_descriptor.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::AnyOf;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr int kHosts = 3;

// What a command printed, both streams, if it failed.
std::string Complaint(const std::string& command) {
  FILE* pipe = popen(Cat(command, " 2>&1").c_str(), "r");
  std::string output;
  std::array<char, 1024> buffer;
  while (const size_t count = fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), count);
  const int status = pclose(pipe);
  return status == 0 ? "" : Cat(command, ": ", output.empty() ? Cat("status ", status) : output);
}

std::string Contents(const std::string& path) {
  std::ifstream file(path);
  return (std::ostringstream() << file.rdbuf()).str();
}

class NetworkNamespacesTest : public testing::Test {
 protected:
  std::string Name(int host) const { return Cat("dtrain-", pid_, "-", host); }  // host kHosts: the bridge's
  static std::string AddressOfHost(int host) { return Cat("10.77.0.", host + 1); }

  void SetUp() override {
    directory_ = Cat(testing::TempDir(), "/dtrain-hosts-", Hex(SecureRandom()).substr(0, 12));
    std::filesystem::create_directories(directory_);
    StartJanitor();
    std::string wrong = Complaint("ip -V");
    std::vector<std::string> commands;
    for (int host = 0; host <= kHosts; ++host) commands.push_back(Cat("ip netns add ", Name(host)));
    commands.push_back(Cat("ip -n ", Name(kHosts), " link add bridge type bridge"));
    commands.push_back(Cat("ip -n ", Name(kHosts), " link set bridge up"));
    for (int host = 0; host < kHosts; ++host) {
      const std::string here = Cat("ip -n ", Name(host), " "), there = Cat("ip -n ", Name(kHosts), " ");
      commands.push_back(Cat(here, "link add eth0 type veth peer name port", host, " netns ", Name(kHosts)));
      commands.push_back(Cat(there, "link set port", host, " master bridge up"));
      commands.push_back(Cat(here, "address add ", AddressOfHost(host), "/24 dev eth0"));
      commands.push_back(Cat(here, "link set eth0 up"));
      commands.push_back(Cat(here, "link set lo up"));
    }
    for (size_t i = 0; i < commands.size() && wrong.empty(); ++i) wrong = Complaint(commands[i]);
    if (!wrong.empty()) GTEST_SKIP() << "no network namespaces here: " << wrong;
  }

  void TearDown() override {
    for (const pid_t pid : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    janitor_.Reset();  // the end of its input
    waitpid(janitor_pid_, nullptr, 0);
    std::filesystem::remove_all(directory_);
  }

  // Removes the namespaces once this process closes the pipe, however it ends.
  void StartJanitor() {
    std::array<int, 2> ends;
    ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    std::string script = "trap '' INT TERM HUP; cat > /dev/null;";
    for (int host = 0; host <= kHosts; ++host) script += Cat(" ip netns del ", Name(host), " 2> /dev/null;");
    janitor_pid_ = fork();
    if (janitor_pid_ == 0) {
      dup2(ends[0], STDIN_FILENO);
      execlp("sh", "sh", "-c", script.c_str(), nullptr);
      _exit(127);
    }
    close(ends[0]);
    janitor_ = FileDescriptor(ends[1]);
  }

  void StartRank(int rank, const std::string& rendezvous, const std::string& token = "a token of sixteen letters or more") {
    const pid_t pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int log = open(LogOf(rank).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      dup2(log, STDOUT_FILENO);
      dup2(log, STDERR_FILENO);
      if (!token.empty()) setenv("DTRAIN_TOKEN", token.c_str(), 1);
      execlp("ip", "ip", "netns", "exec", Name(rank).c_str(), TEST_RANK, rendezvous.c_str(), Cat(rank).c_str(), Cat(kHosts).c_str(),
             Cat(directory_, "/run-of-", rank).c_str(), nullptr);
      _exit(127);
    }
    pids_.push_back(pid);
  }
  std::string LogOf(int rank) const { return Cat(directory_, "/rank-", rank, ".log"); }

  // Exit codes in order of start; -1 for who did not end in time.
  std::vector<int> Ends(Duration limit = seconds(40)) {
    std::vector<int> codes(pids_.size(), -1);
    const Deadline deadline = Deadline::In(limit);
    for (size_t i = 0; i < pids_.size(); ++i) {
      for (int status = 0; !deadline.Passed(); std::this_thread::sleep_for(milliseconds(5))) {
        if (waitpid(pids_[i], &status, WNOHANG) != pids_[i]) continue;
        codes[i] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        pids_[i] = 0;
        break;
      }
    }
    std::erase(pids_, 0);
    return codes;
  }

  const pid_t pid_ = getpid();
  std::string directory_;
  FileDescriptor janitor_;
  pid_t janitor_pid_ = -1;
  std::vector<pid_t> pids_;
};

TEST_F(NetworkNamespacesTest, RanksOnThreeHostsBecomeOneJobWithAMesh) {
  for (const int rank : {2, 0, 1}) StartRank(rank, Cat(AddressOfHost(0), ":29500"));
  EXPECT_EQ(Ends(), std::vector<int>({0, 0, 0}));
  for (int rank = 0; rank < kHosts; ++rank) {
    EXPECT_THAT(Contents(LogOf(rank)), HasSubstr(Cat("rank ", rank, " of 3 at ", AddressOfHost(rank), ": 4 links")));
  }
  EXPECT_THAT(Contents(directory_ + "/run-of-0/processes.json"), HasSubstr("\"number\": 2"));
}

TEST_F(NetworkNamespacesTest, AHostThatDoesNotComeIsNamedOnTheOthers) {
  for (const int rank : {0, 1}) StartRank(rank, Cat(AddressOfHost(0), ":29500"));
  EXPECT_EQ(Ends(), std::vector<int>({5, 5}));
  // By the start limit, or by the first rank that gives up the mesh.
  EXPECT_THAT(Contents(LogOf(0)), AnyOf(HasSubstr("rank 2 of 3 did not join within "), HasSubstr("still lacked rank 2")));
}

TEST_F(NetworkNamespacesTest, TwoHostsThatReachTheFirstButNotEachOtherAreNamedOnAll) {
  ASSERT_EQ(Complaint(Cat("ip -n ", Name(1), " route add blackhole ", AddressOfHost(2))), "");
  for (int rank = 0; rank < kHosts; ++rank) StartRank(rank, Cat(AddressOfHost(0), ":29500"));
  EXPECT_EQ(Ends(), std::vector<int>({5, 5, 5}));
  for (int rank = 0; rank < kHosts; ++rank) {
    EXPECT_THAT(Contents(LogOf(rank)), ContainsRegex("connect the ranks: rank [12] and rank [12] did not reach each other"));
  }
  EXPECT_THAT(Contents(LogOf(0)), HasSubstr(Cat("connect to ", AddressOfHost(2))));
}

TEST_F(NetworkNamespacesTest, WithoutATokenNoAddressOfTheNetworkIsUsed) {
  StartRank(0, Cat(AddressOfHost(0), ":29500"), "");
  EXPECT_EQ(Ends(), std::vector<int>({2}));
  EXPECT_THAT(Contents(LogOf(0)), AllOf(HasSubstr("there is no token"), HasSubstr("DTRAIN_TOKEN")));
}

TEST_F(NetworkNamespacesTest, Rank0OnTheWrongHostSaysSo) {
  StartRank(0, Cat(AddressOfHost(1), ":29500"));
  EXPECT_EQ(Ends(), std::vector<int>({4}));
  EXPECT_THAT(Contents(LogOf(0)), AllOf(HasSubstr("\"10.77.0.2\" is another host"), HasSubstr("eth0 (10.77.0.1)")));
}

}  // namespace
}  // namespace dtrain
