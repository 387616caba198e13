#include "cluster/mpi_rendezvous.h"

#include <mpi.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/codec.h"
#include "cluster/job_environment.h"
#include "cluster/local_address.h"

namespace dtrain {
namespace {

constexpr size_t kSaidBytes = 8192;  // of every broadcast, whatever is said
constexpr size_t kErrorBytesMax = 4096;

// Ends the process unless it is destroyed before the deadline.
class Watchdog {
 public:
  Watchdog(const LauncherEnvironment& environment, Deadline deadline)
      : text_(Cat("error: rank ", environment.rank, " of ", environment.world_size,
                  ": MPI did not bring the ranks together within its deadline; this process ends\n  Hint: does `mpirun` start a plain MPI "
                  "program on these hosts? --rendezvous host:port --rank r --world n does without MPI\n")),
        thread_([this, deadline] {
          std::unique_lock lock(mutex_);
          if (done_.wait_until(lock, deadline.at, [&] { return over_; })) return;
          (void)!write(STDERR_FILENO, text_.data(), text_.size());
          _exit(static_cast<int>(ExitCode::kSetUp));
        }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    done_.notify_all();
    thread_.join();
  }

 private:
  const std::string text_;
  std::mutex mutex_;
  std::condition_variable done_;
  bool over_ = false;
  std::thread thread_;
};

Status CheckMpi(const char* call, int code) {
  if (code == MPI_SUCCESS) return OkStatus();
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return Unavailable(call, ": ", std::string_view(text.data(), static_cast<size_t>(length)));
}

// What rank 0 says, always kSaidBytes: all is well or not; address and token, or why not.
std::array<std::byte, kSaidBytes> Say(const StatusOr<Rendezvous>& hosted) {
  Encoder said;
  said.U8(hosted.ok() ? 1 : 0);
  said.String(hosted.ok() ? ToText(hosted->address) : Message(hosted.status()).substr(0, kErrorBytesMax));
  said.String(hosted.ok() ? hosted->token : "");
  std::array<std::byte, kSaidBytes> bytes = {};
  const auto from = said.bytes();
  std::memcpy(bytes.data(), from.data(), std::min(from.size(), bytes.size()));
  return bytes;
}

StatusOr<Rendezvous> Hear(const std::array<std::byte, kSaidBytes>& bytes, const LauncherEnvironment& environment) {
  Decoder said(bytes);
  const bool well = said.U8() == 1;
  const std::string text = said.String(), token = said.String();
  if (!said.ok()) return DataLoss("what rank 0 broadcast is damaged");
  if (!well) return FailedPrecondition("rank 0 cannot hold the job: ", text);
  Rendezvous heard{.rank = environment.rank, .world_size = environment.world_size, .token = token};
  ASSIGN_OR_RETURN(heard.address, ParseAddress(text));
  return heard;
}

StatusOr<Rendezvous> Meet(const LauncherEnvironment& environment, const std::function<StatusOr<Rendezvous>()>& host) {
  RETURN_IF_ERROR(CheckMpi("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)));
  int rank = -1, size = -1;
  RETURN_IF_ERROR(CheckMpi("MPI_Comm_rank", MPI_Comm_rank(MPI_COMM_WORLD, &rank)));
  RETURN_IF_ERROR(CheckMpi("MPI_Comm_size", MPI_Comm_size(MPI_COMM_WORLD, &size)));
  if (rank != environment.rank || size != environment.world_size) {
    return WithHint(FailedPrecondition("the environment says rank ", environment.rank, " of ", environment.world_size, ", MPI says rank ",
                                       rank, " of ", size),
                    Cat("is ", environment.which(), " of the same MPI with which dtrain was built?"));
  }
  StatusOr<Rendezvous> met = rank == 0 ? host() : Unavailable("nothing was heard yet");
  std::array<std::byte, kSaidBytes> said = rank == 0 ? Say(met) : std::array<std::byte, kSaidBytes>{};
  RETURN_IF_ERROR(CheckMpi("MPI_Bcast", MPI_Bcast(said.data(), static_cast<int>(said.size()), MPI_BYTE, 0, MPI_COMM_WORLD)));
  return rank == 0 ? met : Hear(said, environment);
}

}  // namespace

StatusOr<Rendezvous> MeetByMpi(const LauncherEnvironment& environment, const std::function<StatusOr<Rendezvous>()>& host, Deadline deadline,
                               MpiAfterwards afterwards) {
  const Watchdog watchdog(environment, deadline);
  const auto met = [&]() -> StatusOr<Rendezvous> {
    int before = 0;
    RETURN_IF_ERROR(CheckMpi("MPI_Initialized", MPI_Initialized(&before)));
    if (before != 0) return FailedPrecondition("MPI is in use in this process already");
    int level = 0;
    RETURN_IF_ERROR(CheckMpi("MPI_Init_thread", MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level)));
    auto result = Meet(environment, host);
    if (result.ok() && afterwards == MpiAfterwards::kInUse) return result;
    const Status ended = CheckMpi("MPI_Finalize", MPI_Finalize());
    return result.ok() && !ended.ok() ? ended : result;
  }();
  if (met.ok()) return met;
  return WithExitCode(Annotate(met.status(), Cat("rank ", environment.rank, " of ", environment.world_size, ": meet the others by MPI")),
                      ExitCode::kSetUp);
}

StatusOr<std::string> MpiListenHost(const LauncherEnvironment& environment, const std::string& interface) {
  if (interface.empty() && environment.local_size == environment.world_size) return std::string("127.0.0.1");
  return ListenAddress("", interface);
}

}  // namespace dtrain
