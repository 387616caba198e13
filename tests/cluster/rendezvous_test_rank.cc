// A rank as somebody starts it by hand: rendezvous_test_rank HOST:PORT RANK WORLD RUN_DIRECTORY. It joins (rank 0 holds the
// job), builds the mesh, sends a number over every link and adds up what it gets. `slurm` instead of HOST:PORT takes address, rank
// and world from srun.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "cluster/hosted_job.h"
#include "cluster/launcher_environment.h"
#include "cluster/local_address.h"
#include "cluster/mesh.h"
#include "cluster/tcp_transport.h"

namespace dtrain {
namespace {

using std::chrono::seconds;

#ifdef DTRAIN_SANITIZED
constexpr Duration kPatience = seconds(15);
#else
constexpr Duration kPatience = seconds(2);
#endif
constexpr int kLanes = 2;

int Fail(const Status& status) {
  std::fprintf(stderr, "error: %s\n", Message(status).c_str());
  return static_cast<int>(ExitCodeOf(status, ExitCode::kRankFailed));
}

// 1 for every link that leads to the right rank and back.
StatusOr<int> CountLinks(Mesh& mesh, int rank, Deadline deadline) {
  const auto said = [](int from, int lane) {
    const std::string text = Cat(from, "/", lane);
    const auto bytes = std::as_bytes(std::span(text));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  int count = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (const auto& link : mesh[static_cast<size_t>(lane)]) {
      if (link != nullptr) RETURN_IF_ERROR(link->Send(said(rank, lane), deadline));
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    auto& links = mesh[static_cast<size_t>(lane)];
    for (size_t peer = 0; peer < links.size(); ++peer) {
      if (links[peer] == nullptr) continue;
      ASSIGN_OR_RETURN(const auto heard, links[peer]->Receive(deadline));
      if (heard != said(static_cast<int>(peer), lane)) return Internal("a link leads to the wrong rank");
      ++count;
    }
  }
  return count;
}

Status Train(Member& member, const Address& coordinator, const std::string& token, Deadline deadline) {
  TcpTransport transport({.first_message_bytes_max = 4096});
  ASSIGN_OR_RETURN(const std::string host, AddressTowards(coordinator));
  ASSIGN_OR_RETURN(Mesh mesh, ConnectMesh(transport,
                                          {.rank = member.rank(),
                                           .world_size = member.world_size(),
                                           .token = token,
                                           .host = host,
                                           .lanes = kLanes,
                                           .all_gather = [&](std::string_view tag, std::string_view mine,
                                                             Deadline until) { return member.AllGather(tag, mine, until); },
                                           .health = [&] { return member.Health(); }},
                                          Deadline::In(kPatience)));
  ASSIGN_OR_RETURN(const int links, CountLinks(mesh, member.rank(), deadline));
  // Nobody closes a link that another still reads.
  RETURN_IF_ERROR(member.AllGather("done", "", deadline).status());
  std::printf("rank %d of %d at %s: %d links\n", member.rank(), member.world_size(), host.c_str(), links);
  std::fflush(stdout);
  return OkStatus();
}

int Main(int argc, char** argv) {
  if (argc != 5) return 2;
  const Deadline deadline = Deadline::In(seconds(20));
  const std::string address = argv[1], run_directory = argv[4];
  const auto make = [&]() -> StatusOr<Rendezvous> {
    if (address != "slurm") return MakeRendezvous(address, std::atoi(argv[2]), std::atoi(argv[3]), run_directory);
    ASSIGN_OR_RETURN(const auto environment, ReadLauncherEnvironment());
    if (!environment.has_value()) return Internal("not started by srun");
    return SlurmRendezvous(*environment, run_directory);
  };
  const auto rendezvous = make();
  if (!rendezvous.ok()) return Fail(rendezvous.status());
  std::unique_ptr<HostedJob> host;
  TcpTransport transport;
  StatusOr<std::unique_ptr<Member>> member;
  if (rendezvous->rank == 0) {
    JobOptions options;
    options.job_description = "train this";
    options.start_limit = kPatience;
    options.on_notice = [](LogLevel, const std::string& text) { std::fprintf(stderr, "notice: %s\n", text.c_str()); };
    auto started = HostedJob::Start(*rendezvous, options);
    if (!started.ok()) return Fail(started.status());
    host = *std::move(started);
    member = Member::Join(transport, host->job(), SystemClock(), deadline);
  } else {
    member = JoinRendezvous(transport, *rendezvous, SystemClock(), deadline);
  }
  if (!member.ok()) return Fail(member.status());
  const Status trained = Train(**member, (*member)->job().coordinator, (*member)->job().token, deadline);
  if (!trained.ok()) std::fprintf(stderr, "error: %s\n", Message(trained).c_str());
  (void)(*member)->Leave(trained, Deadline::In(seconds(5)));
  if (host == nullptr) return static_cast<int>(ExitCodeOf(trained, ExitCode::kRankFailed));
  const JobOutcome outcome = host->Wait(Deadline::In(seconds(5)));
  return outcome.status.ok() ? 0 : Fail(outcome.status);
}

}  // namespace
}  // namespace dtrain

int main(int argc, char** argv) { return dtrain::Main(argc, argv); }
