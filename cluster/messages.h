// What the coordinator says to ranks and clients, and they to it. A message is a version byte, a kind byte and the
// fields below in order, by base/codec.h. Pure functions over bytes; nothing from a peer is used before Decode took it.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/digest.h"
#include "base/status.h"
#include "base/view.h"

namespace dtrain {

inline constexpr uint8_t kControlVersion = 1;
inline constexpr size_t kGatherPartBytesMax = 64 << 10;
inline constexpr size_t kGatheredBytesMax = 15 << 20;  // all parts together; below a link's default limit of 16 MiB
inline constexpr size_t kControlTextBytesMax = 64 << 10;
inline constexpr int kRanksMax = 65'536;
inline constexpr int kLanesMax = 64;  // links between two ranks

using Nonce = std::array<std::byte, 32>;

// The coordinator's first message on every connection.
struct Challenge {
  Nonce nonce = {};
  bool operator==(const Challenge&) const = default;
};

enum class PeerRole : uint8_t { kRank = 1, kClient = 2 };

// The answer: who I am, and that I know the job's token (handshake.h says what `mac` covers).
struct Hello {
  PeerRole role = PeerRole::kRank;
  int rank = 0;  // rank and world_size are 0 and 1 for a client
  int world_size = 1;
  int64_t pid = 0;
  std::string host;
  Nonce nonce = {};
  Mac mac = {};
  bool operator==(const Hello&) const = default;
};

// The peer is let in; `mac` proves that the coordinator knows the token too.
struct Welcome {
  std::string job_description;
  Duration deadline = {};
  Mac mac = {};
  bool operator==(const Welcome&) const = default;
};

struct Refused {
  std::string why;
  bool operator==(const Refused&) const = default;
};

// From a rank: alive. From the coordinator, as the answer: so is it (step and progress are 0, waiting is false).
struct Heartbeat {
  Step step = -1;         // the newest step begun; -1 before the first
  uint64_t progress = 0;  // rises with every sign of life of the training itself, not of the heartbeat's thread
  bool waiting = false;   // for other ranks, in a collective operation
  bool operator==(const Heartbeat&) const = default;
};

// One rank's part of an AllGather; `sequence` counts the AllGathers of the job.
struct Gather {
  std::string tag;
  uint64_t sequence = 0;
  std::string part;
  bool operator==(const Gather&) const = default;
};

struct Gathered {
  std::string tag;
  uint64_t sequence = 0;
  std::vector<std::string> parts;  // in order of ranks
  bool operator==(const Gathered&) const = default;
};

// Something for the launcher to show or record; the coordinator does not look inside.
struct Event {
  std::string text;
  bool operator==(const Event&) const = default;
};

// What people asked for; the newest replaces the one before. From a rank: its process was asked to stop by a signal.
struct Request {
  bool stop = false;
  int64_t saves = 0;  // checkpoints asked for so far
  bool operator==(const Request&) const = default;
};

// The job failed; the receiver ends. `exit_code` is the job's.
struct Failed {
  std::string why;
  int exit_code = 0;
  bool operator==(const Failed&) const = default;
};

// A rank's last word. exit_code is -1 if the status carries none.
struct Leave {
  int status_code = 0;  // of absl::StatusCode
  std::string message;
  int exit_code = -1;
  Step step = -1;
  bool operator==(const Leave&) const = default;
};

// The Leave was taken: from now on silence is no death, and the process may end.
struct Farewell {
  bool operator==(const Farewell&) const = default;
};

struct Query {
  std::string text;
  bool operator==(const Query&) const = default;
};

struct Answer {
  bool ok = true;  // false: `text` says why not
  std::string text;
  bool operator==(const Answer&) const = default;
};

// From rank to rank (cluster/mesh.h): the answer to a Challenge. This is link number `lane` from `from` to `to`, in `view`;
// of several attempts at it the highest holds.
struct MeshHello {
  int from = 0;
  int to = 0;
  int world_size = 1;
  int64_t view = 0;
  int lane = 0;
  int64_t attempt = 1;
  Nonce nonce = {};
  Mac mac = {};
  bool operator==(const MeshHello&) const = default;
};

// The link is taken; `mac` proves that `to` knows the token too.
struct MeshWelcome {
  Mac mac = {};
  bool operator==(const MeshWelcome&) const = default;
};

// The kind byte is the position here, from 0. New kinds go to the end.
using ControlMessage = std::variant<Challenge, Hello, Welcome, Refused, Heartbeat, Gather, Gathered, Event, Request, Failed, Leave,
                                    Farewell, Query, Answer, MeshHello, MeshWelcome>;

std::vector<std::byte> Encode(const ControlMessage& message);

// The message that `bytes` are, exactly. kDataLoss for bytes that are none, kUnimplemented for another version's.
// Every field was checked: numbers lie in their range, texts under their limit, flags are 0 or 1.
StatusOr<ControlMessage> Decode(std::span<const std::byte> bytes);

std::string_view NameOf(const ControlMessage& message);  // "Hello"

}  // namespace dtrain
