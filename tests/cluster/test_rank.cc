// A rank for the launcher's tests: test_rank HOW RANK. Every rank joins, reports what it was told, and takes 20 steps of
// an AllGather each; at step 5 rank RANK does HOW. The others end as ranks do: with the reason of Health().
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "cluster/job_environment.h"
#include "cluster/member.h"
#include "cluster/tcp_transport.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Step kSteps = 20;
constexpr Step kActs = 5;

std::string OpenDescriptors() {
  std::string open;
  DIR* directory = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name[0] != '.' && name != Cat(dirfd(directory))) open += Cat(open.empty() ? "" : " ", name);
  }
  closedir(directory);
  return open;
}

Status Act(const std::string& how, Member& member) {
  if (how == "kill") raise(SIGKILL);
  if (how == "freeze") raise(SIGSTOP);
  if (how == "exit") _exit(1);
  if (how == "crash-tail") {
    for (int i = 0; i < 30; ++i) std::printf("line %d before the end\n", i);
    std::fflush(stdout);
    raise(SIGTERM);  // sanitizers have handlers for the others
  }
  if (how == "diverge") return WithExitCode(OutOfRange("the loss is NaN"), ExitCode::kDiverged);
  if (how == "error") return Internal("something broke");
  if (how == "stall") std::this_thread::sleep_for(seconds(60));
  if (how == "leave-early") {
    (void)member.Leave(OkStatus(), Deadline::In(seconds(5)));
    std::this_thread::sleep_for(seconds(60));
  }
  if (how == "compute") {  // longer than the deadline, in one piece
    for (const Deadline end = Deadline::In(member.deadline() * 3 / 2); !end.Passed();) {
    }
  }
  return OkStatus();
}

// Until a stop is asked for; rank 0 tells the others.
Status Loop(Member& member) {
  for (Step step = 0;; ++step) {
    member.Advance(step);
    const Requests requests = member.requests();
    auto all = member.AllGather("stop", Cat(requests.stop ? 1 : 0, " ", requests.saves), Deadline::In(seconds(20)));
    if (!all.ok()) return all.status();
    if (all->front().starts_with("1")) {
      if (member.rank() == 0) (void)member.Report(Cat("saves ", requests.saves));
      return WithExitCode(Cancelled("stopped at step ", step), ExitCode::kStopped);
    }
    std::this_thread::sleep_for(milliseconds(5));
  }
}

Status Train(const std::string& how, int rank, Member& member) {
  if (how == "loop") return Loop(member);
  for (Step step = 0; step < kSteps; ++step) {
    member.Advance(step);
    if (step == kActs && member.rank() == rank) RETURN_IF_ERROR(Act(how, member));
    const std::string mine = Cat(member.rank(), "@", step);
    auto all = member.AllGather("step", mine, Deadline::In(seconds(30)));
    if (!all.ok()) return member.Health().ok() ? all.status() : member.Health();
    for (int peer = 0; peer < member.world_size(); ++peer) {
      if ((*all)[static_cast<size_t>(peer)] != Cat(peer, "@", step)) return Internal("AllGather gave wrong parts");
    }
  }
  return OkStatus();
}

int Main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "ok";
  const int acting = argc > 2 ? std::atoi(argv[2]) : 0;
  const std::string descriptors = OpenDescriptors();
  auto job = ReadJobEnvironment();
  if (!job.ok()) {
    std::fprintf(stderr, "%s\n", Message(job.status()).c_str());
    return 4;
  }
  if (how == "never-join" && job->rank == acting) std::this_thread::sleep_for(seconds(60));
  if (how == "fail-before-join" && job->rank == acting) return 9;
  if (how == "set-up-fails" && job->rank == acting) {
    std::fprintf(stderr, "no such data set\n");
    return 4;
  }
  if (how == "wrong-token") job->token = "guessed";
  TcpTransport transport;
  auto member = Member::Join(transport, *job, SystemClock(), Deadline::In(seconds(10)));
  if (!member.ok()) {
    std::fprintf(stderr, "%s\n", Message(member.status()).c_str());
    return 5;
  }
  if (how == "segment" && job->segment_fd >= 0) {
    const char mark = static_cast<char>('a' + job->rank);
    if (pwrite(job->segment_fd, &mark, 1, job->rank) != 1) return 1;
  }
  std::printf("rank %d of %d was told: %s\n", job->rank, job->world_size, (*member)->job_description().c_str());
  std::fflush(stdout);
  (void)(*member)->Report(Cat("descriptors ", descriptors, " pid ", getpid(), " group ", getpgrp()));
  const Status outcome = Train(how, acting, **member);
  const Status left = (*member)->Leave(outcome, Deadline::In(seconds(5)));
  if (how == "hang-after-leave" && job->rank == acting) std::this_thread::sleep_for(seconds(60));
  if (!left.ok()) std::fprintf(stderr, "%s\n", Message(left).c_str());
  return static_cast<int>(ExitCodeOf(outcome, ExitCode::kRankFailed));
}

}  // namespace
}  // namespace dtrain

int main(int argc, char** argv) { return dtrain::Main(argc, argv); }
