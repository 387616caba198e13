// What a rank is told by whoever started it, as environment variables:
//   DTRAIN_RANK, DTRAIN_WORLD_SIZE, DTRAIN_COORDINATOR=host:port, DTRAIN_TOKEN, DTRAIN_DEADLINE_MS,
//   DTRAIN_SEGMENT_FD (optional: a descriptor of shared memory that the launcher made).
#pragma once
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "base/transport.h"

namespace dtrain {

struct JobEnvironment {
  int rank = 0;
  int world_size = 1;
  Address coordinator;
  std::string token;
  int segment_fd = -1;                          // -1: none
  Duration deadline = std::chrono::seconds(5);  // heartbeat silence after which a rank is dead
};

// True if this process was started as a rank: any of the variables but the token is set.
bool StartedAsRank();

// Reads the variables and removes DTRAIN_TOKEN from the environment, so that no child of the rank inherits it.
// kFailedPrecondition names a variable that is missing, malformed or contradicts another. Call before other threads start
// (it changes the environment).
StatusOr<JobEnvironment> ReadJobEnvironment();

// The way back: "NAME=value" for each variable.
std::vector<std::string> ToEnvironment(const JobEnvironment& job);

// "127.0.0.1:29500" and back. kInvalidArgument if `text` is no host:port.
std::string ToText(const Address& address);
StatusOr<Address> ParseAddress(std::string_view text);

}  // namespace dtrain
