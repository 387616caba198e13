#include "cluster/rendezvous.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "cluster/file_descriptor.h"
#include "cluster/job_environment.h"
#include "cluster/local_address.h"
#include "cluster/messages.h"
#include "cluster/run_files.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;

constexpr const char* kToken = "DTRAIN_TOKEN";
constexpr const char* kTokenFile = "DTRAIN_TOKEN_FILE";
constexpr size_t kTokenBytesMax = 4096;
constexpr Duration kLookAgain = milliseconds(100);

constexpr std::string_view kHowToMakeOne =
    "`openssl rand -hex 32` makes one; give all ranks the same as DTRAIN_TOKEN, or name a file that holds it with DTRAIN_TOKEN_FILE";

StatusOr<std::string> ReadTokenFile(const std::string& path) {
  const std::string what = Cat("read the job's token from ", path, ", which ", kTokenFile, " names");
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat found;
  if (!file.open() || fstat(file.fd(), &found) != 0) return NotFound(what, ": ", std::strerror(errno));
  if (!S_ISREG(found.st_mode)) return InvalidArgument(what, ": it is no file");
  if ((found.st_mode & S_IROTH) != 0) {
    return WithHint(InvalidArgument(what, ": every user of this machine can read it"), Cat("chmod 600 ", path));
  }
  std::array<char, kTokenBytesMax + 1> bytes;
  const ssize_t count = read(file.fd(), bytes.data(), bytes.size());
  if (count < 0) return Unavailable(what, ": ", std::strerror(errno));
  if (static_cast<size_t>(count) > kTokenBytesMax) return InvalidArgument(what, ": it has more than ", kTokenBytesMax, " bytes");
  return std::string(Trim({bytes.data(), static_cast<size_t>(count)}));
}

Status CheckNumbers(int64_t rank, int64_t world_size) {
  if (world_size < 1 || world_size > kRanksMax) return InvalidArgument("--world ", world_size, ": expected 1 to ", kRanksMax);
  if (rank < 0 || rank >= world_size) {
    return InvalidArgument("--rank ", rank, ": expected 0 to ", world_size - 1, ", since --world is ", world_size);
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::string> TokenFromEnvironment() {
  const char* value = std::getenv(kToken);
  const char* file = std::getenv(kTokenFile);
  std::string token = value == nullptr ? "" : value;
  const bool given = !token.empty();
  unsetenv(kToken);
  if (file != nullptr && *file != '\0') {
    if (given) return InvalidArgument("both ", kToken, " and ", kTokenFile, " (", file, ") are set, expected one of them");
    ASSIGN_OR_RETURN(token, ReadTokenFile(file));
  } else if (!given) {
    return std::string();
  }
  if (token.size() < kTokenBytesMin) {
    return WithHint(InvalidArgument("the job's token (", given ? kToken : kTokenFile, ") has ", token.size(),
                                    " characters, expected at least ", kTokenBytesMin),
                    kHowToMakeOne);
  }
  return token;
}

StatusOr<Rendezvous> MakeRendezvous(std::string_view address, int64_t rank, int64_t world_size, const std::string& run_directory,
                                    const std::string& interface) {
  const auto make = [&]() -> StatusOr<Rendezvous> {
    RETURN_IF_ERROR(CheckNumbers(rank, world_size));
    Rendezvous made{
        .rank = static_cast<int>(rank), .world_size = static_cast<int>(world_size), .run_directory = run_directory, .interface = interface};
    auto parsed = ParseAddress(address);
    if (!parsed.ok()) return Annotate(parsed.status(), "--rendezvous");
    made.address = *std::move(parsed);
    ASSIGN_OR_RETURN(made.token, TokenFromEnvironment());
    if (made.token.empty() && !IsLoopback(made.address.host)) {
      return WithHint(FailedPrecondition("--rendezvous ", address,
                                         " can be reached from other hosts, but there is no token by which ranks "
                                         "prove that they are of this job"),
                      kHowToMakeOne);
    }
    return made;
  };
  auto made = make();
  return made.ok() ? made : WithExitCode(made.status(), ExitCode::kUsage);
}

StatusOr<std::unique_ptr<Member>> JoinRendezvous(Transport& transport, const Rendezvous& rendezvous, const Clock& clock,
                                                 Deadline deadline) {
  JobEnvironment job{
      .rank = rendezvous.rank, .world_size = rendezvous.world_size, .coordinator = rendezvous.address, .token = rendezvous.token};
  const std::string_view is_it_there =
      "rank 0 of this job listens there: is it started, is the address right, does a firewall let us through?";
  if (!rendezvous.token.empty()) {
    auto host = ReachableHost(rendezvous.address.host, rendezvous.interface);
    if (!host.ok()) return Annotate(host.status(), Cat("rank ", job.rank, " of ", job.world_size, ": join the job"));
    job.coordinator.host = *std::move(host);
    auto member = Member::Join(transport, job, clock, deadline);
    if (member.ok()) return member;
    return WithHint(member.status(), member.status().code() == StatusCode::kPermissionDenied
                                         ? "all ranks of a job are given the same --world and token, and each a number of its own"
                                         : is_it_there);
  }
  if (rendezvous.run_directory.empty()) return InvalidArgument("join the job: neither a token nor a run directory is given");
  // Rank 0 may not have written its token yet, and what lies there may be left over from an earlier job.
  Status failed;
  do {
    const auto control = ReadControlFile(rendezvous.run_directory);
    if (control.ok() && control->coordinator.port == rendezvous.address.port) {
      job.token = control->token;
      job.coordinator = control->coordinator;
      auto member = Member::Join(transport, job, clock, {std::min(deadline.at, Deadline::In(std::chrono::seconds(1), clock).at)});
      const bool stale = member.status().code() == StatusCode::kPermissionDenied &&
                         Message(member.status()).find("the token is not this job's") != std::string::npos;
      if (member.ok() || (member.status().code() == StatusCode::kPermissionDenied && !stale)) return member;
      failed = stale ? PermissionDenied("the job at ", ToText(rendezvous.address), " does not run in ", rendezvous.run_directory)
                     : member.status();
      if (failed.code() == StatusCode::kNotFound || failed.code() == StatusCode::kUnimplemented) return failed;
    } else if (control.ok()) {
      failed = FailedPrecondition("the job in ", rendezvous.run_directory, " is at ", ToText(control->coordinator));
    } else {
      failed = control.status();
    }
    std::this_thread::sleep_for(std::min(kLookAgain, std::max(deadline.Left(clock), Duration(0))));
  } while (!deadline.Passed(clock));
  return WithHint(
      MakeStatus(failed.code() == StatusCode::kPermissionDenied ? StatusCode::kPermissionDenied : StatusCode::kDeadlineExceeded, "rank ",
                 rendezvous.rank, " of ", rendezvous.world_size, ": join the job at ", ToText(rendezvous.address), ": ", Message(failed)),
      Cat("without a token in the environment all ranks share rank 0's run directory; ", is_it_there));
}

}  // namespace dtrain
