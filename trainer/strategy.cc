#include "trainer/strategy.h"

#include "allreduce/host_memory.h"
#include "allreduce/link_communicator.h"
#include "allreduce/shm_communicator.h"
#include "cluster/file_descriptor.h"
#include "trainer/local_exchange.h"
#include "trainer/ring_exchange.h"
#include "trainer/shm_exchange.h"

namespace dtrain {
namespace {

constexpr int kShmRanksMax = 64;

Status Vain(const Status& status, const std::string& hint) { return WithExitCode(WithHint(status, hint), ExitCode::kConfiguration); }

class Maker {
 public:
  Maker(const TrainingJob& job, const ExchangeOptions& options, JobChannel& channel, const HostGroup& hosts, const FlatLayout& layout,
        const FlatLayout& buffer_layout, Deadline deadline)
      : job_(job),
        backend_(job.config.String("strategy.backend", "auto")),
        sharded_(job.config.At("strategy.shard_optimizer").if_bool()),
        options_(options),
        channel_(channel),
        hosts_(hosts),
        layout_(layout),
        buffer_layout_(buffer_layout),
        deadline_(deadline) {}

  StatusOr<ChosenExchange> Make() {
    if (ranks() == 1) {
      ASSIGN_OR_RETURN(auto exchange, MakeLocalExchange(options_, layout_, buffer_layout_));
      return ChosenExchange{std::move(exchange), "local, one process"};
    }
    if (backend_ == "tcp") return OverLinks();
    if (backend_ == "mpi") return OverMpi();
    FileDescriptor own;
    std::string why_not = hosts_.one_host() ? "" : "the ranks are on several hosts";
    int segment_fd = job_.segment_fd;
    if (ranks() > kShmRanksMax) why_not = Cat("shared memory serves at most ", kShmRanksMax, " ranks");
    if (segment_fd < 0 && why_not.empty()) {
      ASSIGN_OR_RETURN(segment_fd, ShareSegment(channel_, &why_not, deadline_));
      own = FileDescriptor(segment_fd);
    }
    if (segment_fd >= 0) return InSharedMemory(segment_fd);
    if (backend_ == "auto") return job_.mpi_communicator ? OverMpi() : OverLinks();
    return Vain(InvalidArgument("strategy.backend: found ", backend_, ", but ", why_not), "leave it at auto");
  }

 private:
  int ranks() const { return channel_.world_size(); }
  std::function<Status()> health() const {
    return [&channel = channel_] { return channel.Health(); };
  }

  // Unless asked otherwise the owner of a slice applies, for all ranks.
  StatusOr<ChosenExchange> InSharedMemory(int segment_fd) {
    if (sharded_ != nullptr && !*sharded_) {
      ASSIGN_OR_RETURN(auto communicator,
                       ShmCommunicator::Open(segment_fd, {.rank = channel_.rank(), .size = ranks(), .health = health()}, deadline_));
      return Over(std::move(communicator), Cat("shared memory, ", ranks(), " ranks, each with parameters of its own"));
    }
    const ShmExchangeOptions shm{.segment_fd = segment_fd, .rank = channel_.rank(), .size = ranks(), .health = health()};
    ASSIGN_OR_RETURN(auto exchange, MakeShmExchange(options_, shm, layout_, buffer_layout_, deadline_));
    return ChosenExchange{std::move(exchange), Cat("shared memory, ", ranks(), " ranks")};
  }

  StatusOr<ChosenExchange> OverLinks() {
    KeepFreedMemory();  // messages come and go by the megabyte
    ASSIGN_OR_RETURN(auto links, channel_.ConnectPeers(job_.config.String("strategy.interface", ""), deadline_));
    LinkOptions options;
    options.group.rank = channel_.rank();
    options.group.size = ranks();
    options.health = health();
    ASSIGN_OR_RETURN(auto communicator, LinkCommunicator::Open(std::move(links), options));
    return Over(std::move(communicator), Cat("ring over TCP, ", ranks(), " ranks"));
  }

  StatusOr<ChosenExchange> OverMpi() {
    if (!job_.mpi_communicator) {
      return Vain(InvalidArgument("strategy.backend: found mpi, but the ranks were not started by mpirun"),
                  "start them with mpirun, or leave it at auto");
    }
    ASSIGN_OR_RETURN(auto communicator, job_.mpi_communicator(health(), deadline_));
    if (communicator->rank() != channel_.rank() || communicator->size() != ranks()) {
      return Internal("strategy.backend mpi: MPI says rank ", communicator->rank(), " of ", communicator->size(), ", the job ",
                      channel_.rank(), " of ", ranks());
    }
    return Over(std::move(communicator), Cat("all-reduce by MPI, ", ranks(), " ranks"));
  }

  StatusOr<ChosenExchange> Over(std::unique_ptr<Communicator> communicator, const std::string& description) {
    if (sharded_ != nullptr && *sharded_) {
      return Vain(Unimplemented("strategy.shard_optimizer: found true, which needs ranks that share a host's memory"), "leave it at auto");
    }
    ASSIGN_OR_RETURN(auto exchange, MakeRingExchange(options_, std::move(communicator), layout_, buffer_layout_));
    return ChosenExchange{std::move(exchange), description};
  }

  const TrainingJob& job_;
  const std::string backend_;
  const bool* const sharded_;  // null: auto
  const ExchangeOptions& options_;
  JobChannel& channel_;
  const HostGroup& hosts_;
  const FlatLayout &layout_, &buffer_layout_;
  const Deadline deadline_;
};

}  // namespace

StatusOr<ChosenExchange> MakeExchange(const TrainingJob& job, const ExchangeOptions& options, JobChannel& channel, const HostGroup& hosts,
                                      const FlatLayout& layout, const FlatLayout& buffer_layout, Deadline deadline) {
  auto chosen = Maker(job, options, channel, hosts, layout, buffer_layout, deadline).Make();
  if (!chosen.ok()) return WithExitCode(chosen.status(), ExitCodeOf(chosen.status(), ExitCode::kSetUp));
  return chosen;
}

}  // namespace dtrain
