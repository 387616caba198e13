// What workers, servers and the coordinator say to each other. A message is a head (version, kind, who says it, the fields
// below in order, zeros up to a multiple of 16 bytes, a CRC32C of it all) and, if it carries elements, a frame of
// base/wire.h behind it. One encoding for each message, and no single flipped bit passes for another one.
// Pure functions over bytes; nothing from a peer is used before Decode took it.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/leaf_tree.h"
#include "base/status.h"
#include "base/view.h"
#include "paramserver/block_tree.h"
#include "paramserver/table.h"

namespace dtrain::ps {

inline constexpr uint16_t kMessageVersion = 1;
inline constexpr int32_t kNoWorker = -1;  // said by a server or the coordinator

// Who says it, in which membership, about which cut of the parameters. It fences only: work is named by its own fields.
struct Sender {
  uint64_t job = 0;
  int64_t view = 0;
  int32_t worker = kNoWorker;
  uint64_t incarnation = 0;  // of the process that says it
  uint32_t table = 0;        // version; 0 before there is one
  bool operator==(const Sender&) const = default;
};

// The name of a piece of work. Synchronous: epoch is 0 and `unit` a sub-tree of the leaves of `step`. Asynchronous: `step`
// is the number of a lease of samples of `epoch`, and `unit` the whole of it.
struct Work {
  int64_t epoch = 0;
  Step step = 0;
  SubTree unit;
  bool operator==(const Work&) const = default;
};

// Worker to server ---------------------------------------------------------------------------------------------------

// My table. Rank 0's is taken if the server has none; every other is compared with it.
struct Register {
  Table table;
  bool operator==(const Register&) const = default;
};

// Initial values of the chunk at `offset`, from rank 0. Carries elements.
struct Initial {
  int64_t offset = 0;
};

// A gradient for the chunk at `offset`, computed on parameters of version `read_version`. Carries elements.
struct Push {
  Work work;
  int64_t offset = 0;
  int64_t read_version = 0;
  double scale = 1;  // asynchronous: what the gradient is multiplied by, 1 / weight times the sender's clip coefficient
};

// All chunks of `unit` are on their way; this is what belongs to them as a whole. The sender waits for the step to close.
struct Finish {
  Step step = 0;
  SubTree unit;
  double weight = 0, loss_sum = 0;
  bool finite = true;
  bool want_parameters = false;  // of step + 1, as soon as there are
  bool operator==(const Finish&) const = default;
};

// The newest version in [min_version, max_version] of the chunk at `offset`.
struct Pull {
  int64_t offset = 0;
  int64_t min_version = 0, max_version = 0;
  bool operator==(const Pull&) const = default;
};

// The sum of the squares of the gradient of `step` over all shards, joined from their Sums.
struct Close {
  Step step = 0;
  double square_sum = 0;
  bool operator==(const Close&) const = default;
};

// With backup workers: my gradient of `step` is complete, may it count?
struct Claim {
  Step step = 0;
  double weight = 0;
  bool operator==(const Claim&) const = default;
};

// Server to worker ---------------------------------------------------------------------------------------------------

struct Registered {
  bool ready = false;  // all initial values are in
  int64_t version = -1;
  bool operator==(const Registered&) const = default;
};

struct InitialTaken {
  int64_t offset = 0;
  bool operator==(const InitialTaken&) const = default;
};

enum class PushOutcome : uint8_t {
  kTaken = 1,   // applied, now or before: done with it
  kHeld = 2,    // came before its turn and waits here; not taken yet
  kLater = 3,   // not taken: came before its turn, and there is no room
  kNow = 4,     // what was put off has its turn: send it again
  kClosed = 5,  // its step is over
};

struct PushAnswer {
  Work work;
  int64_t offset = 0;
  PushOutcome outcome = PushOutcome::kTaken;
  int64_t version = 0;  // of the chunk
  bool operator==(const PushAnswer&) const = default;
};

// The step is still open; the server lives and knows that the receiver waits.
struct Waiting {
  Step step = 0;
  bool operator==(const Waiting&) const = default;
};

// All gradients of `step` are in; the shard's parts of the sum of their squares over blocks. Answer with Close.
struct Sums {
  Step step = 0;
  std::vector<SumPart> parts;
  bool operator==(const Sums&) const = default;
};

struct Closed {
  Step step = 0;
  int64_t version = 0;
  bool known = true;    // false: it was closed long ago, and what became of it is forgotten
  bool applied = true;  // false: skipped, the parameters are those of before
  double weight = 0, loss_sum = 0, norm = 0;
  bool has_square_sum = false;  // what Close said, so that whoever hears it can tell a server that has not closed yet
  double square_sum = 0;
  bool operator==(const Closed&) const = default;
};

// The chunk at `offset` in `version`. Carries elements.
struct Parameters {
  int64_t version = 0;
  int64_t offset = 0;
};

// There is no such version yet; it will be sent when there is.
struct PullLater {
  int64_t offset = 0;
  bool operator==(const PullLater&) const = default;
};

// There is no version as old as that any more; the newest is `version`.
struct Passed {
  int64_t offset = 0;
  int64_t version = 0;
  bool operator==(const Passed&) const = default;
};

// slot -1: this gradient is not needed, the step has enough; the parameters of step + 1 will come.
struct Granted {
  Step step = 0;
  int32_t slot = -1;
  bool operator==(const Granted&) const = default;
};

// The view or incarnation of what was sent is not the one in force, which Sender::view names.
struct WrongView {
  int64_t sent_in = 0;  // the view of what was sent: the receiver may have learnt better since
  bool operator==(const WrongView&) const = default;
};

struct WrongTable {
  Table table;  // the one in force
  bool operator==(const WrongTable&) const = default;
};

// What was sent cannot be taken, now or ever. It is named by its kind, step and offset, as far as it has them: a refusal of
// something that is long settled (a repeat on a slow path) means nothing.
struct Refused {
  int32_t code = 0;  // of absl::StatusCode
  std::string why;
  int32_t kind = 0;  // Body::index() of what was sent
  Step step = 0;
  int64_t offset = 0;
  bool operator==(const Refused&) const = default;
};

// Coordinator and server ---------------------------------------------------------------------------------------------

struct Member {
  int32_t worker = 0;
  uint64_t incarnation = 0;
  bool operator==(const Member&) const = default;
};

// Sender::view is the new view.
struct OpenView {
  std::vector<Member> members;  // ascending by worker
  bool operator==(const OpenView&) const = default;
};

struct ViewTaken {
  int64_t version = -1;  // of the server's parameters; -1 if it has none
  bool operator==(const ViewTaken&) const = default;
};

// The kind byte is the position here, from 0. New kinds go to the end.
using Body = std::variant<Register, Initial, Push, Finish, Pull, Close, Claim, Registered, InitialTaken, PushAnswer, Waiting, Sums, Closed,
                          Parameters, PullLater, Passed, Granted, WrongView, WrongTable, Refused, OpenView, ViewTaken>;

struct Message {
  Sender sender;
  Body body;
  std::span<const float> elements;  // of Initial, Push and Parameters; a view
};

std::string_view NameOf(const Message& message);
// What is at fault, as a Refused names it.
Refused RefusalOf(const Message& message, const Status& status);
bool CarriesElements(const Body& body);

// What goes before the elements; the message is these bytes and then the elements as they lie in memory.
std::vector<std::byte> EncodeHead(const Message& message);
std::vector<std::byte> Encode(const Message& message);  // all of it in one piece

// The message that `bytes` are, exactly; its elements are a view into them, so they begin at a multiple of 4 in memory.
// kDataLoss for bytes that are none or were damaged, kUnimplemented for another version's. Numbers lie in their range.
StatusOr<Message> Decode(std::span<const std::byte> bytes);

}  // namespace dtrain::ps
