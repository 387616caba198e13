#include "cluster/job_environment.h"

#include <fcntl.h>

#include <cstdlib>
#include <optional>

#include "cluster/messages.h"

namespace dtrain {
namespace {

constexpr const char* kRank = "DTRAIN_RANK";
constexpr const char* kWorldSize = "DTRAIN_WORLD_SIZE";
constexpr const char* kCoordinator = "DTRAIN_COORDINATOR";
constexpr const char* kToken = "DTRAIN_TOKEN";
constexpr const char* kSegment = "DTRAIN_SEGMENT_FD";
constexpr const char* kDeadline = "DTRAIN_DEADLINE_MS";
constexpr int64_t kDeadlineMsMax = 24 * 3600 * 1000;

StatusOr<std::string> Variable(const char* name) {
  const char* value = std::getenv(name);
  if (value != nullptr && *value != '\0') return std::string(value);
  return WithHint(FailedPrecondition("read the job's environment: ", name, " is not set"),
                  "ranks are started by `dtrain train -n N` or by your own program with -n N, not by hand");
}

StatusOr<int64_t> Number(const char* name, int64_t min, int64_t max) {
  ASSIGN_OR_RETURN(const std::string text, Variable(name));
  const auto number = ParseInt(text);
  if (number.has_value() && min <= *number && *number <= max) return *number;
  return FailedPrecondition("read the job's environment: ", name, " is \"", text, "\", expected a whole number from ", min, " to ", max);
}

}  // namespace

bool StartedAsRank() {
  // Not the token: who starts ranks by hand sets it himself (cluster/rendezvous.h).
  for (const char* name : {kRank, kWorldSize, kCoordinator, kSegment, kDeadline}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

StatusOr<JobEnvironment> ReadJobEnvironment() {
  JobEnvironment job;
  ASSIGN_OR_RETURN(job.world_size, Number(kWorldSize, 1, kRanksMax));
  ASSIGN_OR_RETURN(job.rank, Number(kRank, 0, kRanksMax - 1));
  if (job.rank >= job.world_size) {
    return FailedPrecondition("read the job's environment: ", kRank, " is ", job.rank, ", expected less than ", kWorldSize, ", which is ",
                              job.world_size);
  }
  ASSIGN_OR_RETURN(const std::string coordinator, Variable(kCoordinator));
  auto address = ParseAddress(coordinator);
  if (!address.ok()) return FailedPrecondition("read the job's environment: ", kCoordinator, ": ", Message(address.status()));
  job.coordinator = *std::move(address);
  ASSIGN_OR_RETURN(const int64_t deadline_ms, Number(kDeadline, 1, kDeadlineMsMax));
  job.deadline = std::chrono::milliseconds(deadline_ms);
  if (std::getenv(kSegment) != nullptr) {
    ASSIGN_OR_RETURN(job.segment_fd, Number(kSegment, 0, 1 << 20));
    if (fcntl(job.segment_fd, F_GETFD) < 0) {
      return FailedPrecondition("read the job's environment: ", kSegment, " is ", job.segment_fd, ", but no such descriptor is open");
    }
  }
  ASSIGN_OR_RETURN(job.token, Variable(kToken));
  unsetenv(kToken);
  return job;
}

std::vector<std::string> ToEnvironment(const JobEnvironment& job) {
  std::vector<std::string> variables = {
      Cat(kRank, "=", job.rank),
      Cat(kWorldSize, "=", job.world_size),
      Cat(kCoordinator, "=", ToText(job.coordinator)),
      Cat(kToken, "=", job.token),
      Cat(kDeadline, "=", std::chrono::ceil<std::chrono::milliseconds>(job.deadline).count()),
  };
  if (job.segment_fd >= 0) variables.push_back(Cat(kSegment, "=", job.segment_fd));
  return variables;
}

std::string ToText(const Address& address) { return Cat(address.host, ":", address.port); }

StatusOr<Address> ParseAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon != std::string_view::npos && colon > 0) {
    const auto port = ParseInt(text.substr(colon + 1));
    if (port.has_value() && 1 <= *port && *port <= 65'535) {
      return Address{std::string(text.substr(0, colon)), static_cast<uint16_t>(*port)};
    }
  }
  return InvalidArgument("\"", text, "\" is no address, expected host:port with a port from 1 to 65535");
}

}  // namespace dtrain
