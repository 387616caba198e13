#include "trainer/host_group.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "allreduce/shm_communicator.h"
#include "base/text.h"
#include "cluster/handshake.h"
#include "cluster/thread_budget.h"

namespace dtrain {
namespace {

// Of the host as its processes see it; empty if it cannot be told, which is like no other.
std::string HostIdentity() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  struct stat processes = {};
  if (boot.empty() || stat("/proc/self/ns/pid", &processes) != 0) return Cat("process-", getpid(), "-of-", HostName());
  return Cat(boot, "/", processes.st_ino);
}

// The cores this process may run on, as "0,1,5".
std::string OwnCores() {
  cpu_set_t set;
  std::vector<std::string> cores;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return "";
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(Cat(core));
  }
  return Join(cores, ",");
}

}  // namespace

StatusOr<HostGroup> GatherHosts(JobChannel& channel, Deadline deadline) {
  const std::string mine = HostIdentity();
  ASSIGN_OR_RETURN(const auto all, channel.AllGather("hosts", Cat(mine, " ", OwnCores(), " ", HostName()), deadline));
  HostGroup group;
  group.local_size = 0;
  // mpirun and srun may have given each rank cores of its own: those of a host are what all its ranks have together.
  std::set<std::string> cores;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const auto words = Split(all[rank], ' ');
    if (words.size() != 3) return DataLoss("gather the hosts: rank ", rank, " said '", all[rank], "'; expected identity, cores and name");
    group.host_of.push_back(words[2]);
    if (words[0] != mine) continue;
    if (static_cast<int>(rank) == channel.rank()) group.local_rank = group.local_size;
    ++group.local_size;
    for (const std::string& core : Split(words[1], ',')) cores.insert(core);
  }
  group.cores = static_cast<int>(cores.size());
  // A control group may allow less time than the cores have.
  cpu_set_t set;
  const bool limited = sched_getaffinity(0, sizeof set, &set) == 0 && UsableCores() < CPU_COUNT(&set);
  if (limited || group.cores < 1) group.cores = UsableCores();
  return group;
}

StatusOr<int> ShareSegment(JobChannel& channel, std::string* why_not, Deadline deadline) {
  int fd = -1;
  std::string problem;
  if (channel.rank() == 0) {
    const auto made = ShmCommunicator::MakeSegment();
    if (made.ok()) {
      fd = *made;
    } else {
      problem = Message(made.status());
    }
  }
  ASSIGN_OR_RETURN(const auto where, channel.AllGather("segment", fd < 0 ? "" : Cat("/proc/", getpid(), "/fd/", fd), deadline));
  if (channel.rank() > 0 && !where[0].empty()) {
    // The path is a peer's word: only that form is opened.
    int pid = 0, number = 0;
    if (std::sscanf(where[0].c_str(), "/proc/%d/fd/%d", &pid, &number) != 2 || where[0] != Cat("/proc/", pid, "/fd/", number)) {
      problem = Cat("rank 0 said '", where[0], "'");
    } else if (fd = open(where[0].c_str(), O_RDWR | O_CLOEXEC); fd < 0) {
      problem = std::strerror(errno);
    }
  }
  const auto opened = channel.AllGather("segment open", problem, deadline);
  for (size_t rank = 0; opened.ok() && rank < opened->size(); ++rank) {
    if ((*opened)[rank].empty()) continue;
    *why_not = Cat("rank ", rank, " has no memory in common with rank 0: ", (*opened)[rank]);
    if (fd >= 0) close(fd);
    return -1;
  }
  if (!opened.ok() && fd >= 0) close(fd);
  RETURN_IF_ERROR(opened.status());
  return fd;
}

}  // namespace dtrain
