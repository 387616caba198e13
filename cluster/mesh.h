// Links between all ranks of a job, for collectives between hosts. Each rank listens, tells the others where (all_gather),
// connects to the higher ranks and lets the lower ones in; both ends prove the job's token (cluster/handshake.h) and say
// rank and view. In the end all ranks tell each other what they lack, so that either every rank has all its links or
// every rank has the same error, which names the ranks that did not come.
// Strangers do no harm: each is greeted in a thread of its own and cut after `hello_limit`; of more than `strangers_max`
// the oldest is cut. A rank that is cut among them, or whose link breaks on the way, tries again.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/transport.h"
#include "cluster/messages.h"

namespace dtrain {

struct MeshOptions {
  int rank = 0;
  int world_size = 1;
  int64_t view = 0;  // links of another view are refused
  std::string token;
  // Where this rank listens and the others reach it: cluster/local_address.h finds it.
  std::string host = "127.0.0.1";
  int lanes = 1;  // links to every other rank, at most kLanesMax
  // Member::AllGather, as a rule.
  std::function<StatusOr<std::vector<std::string>>(std::string_view tag, std::string_view mine, Deadline deadline)> all_gather;
  std::function<Status()> health;  // Member::Health: the job failed, do not wait any longer. May be empty.
  Duration hello_limit = std::chrono::seconds(5);
  int strangers_max = 32;
};

// [lane][rank]; the own entry is null. Lane 0 alone is one link to every rank.
using Mesh = std::vector<std::vector<std::unique_ptr<Link>>>;

// Collective: all ranks call it with the same view and lanes. kUnavailable names the ranks that did not reach each other,
// within `deadline`; other codes as all_gather and health have them. Give a TcpTransport a small first_message_bytes_max.
StatusOr<Mesh> ConnectMesh(Transport& transport, const MeshOptions& options, Deadline deadline);

}  // namespace dtrain
