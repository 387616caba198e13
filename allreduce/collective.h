// A collective over messages as a state machine of one rank: it is told what arrived and what has left, and says what to
// send. No threads, sockets or clock, so that a simulator steps all ranks in one thread. allreduce/session.h checks each
// message's job, view and place in the sequence before a collective sees it; the collective checks the rest.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/wire.h"

namespace dtrain {

// Who takes part. Ranks on different hosts must have equal values but for `rank`.
struct Group {
  uint64_t job = 0;
  int64_t view = 0;
  uint32_t exchange = 0;
  int rank = 0;
  int size = 1;
};

inline constexpr int kLinkRanksMax = 256;

// What a message belongs to, in the frame's `part`: a rank that made another call is found out at its first message.
enum class Call : uint8_t { kAbort, kBarrier, kBroadcast, kAllGather, kAllToAll, kReduceScatter, kAllReduce };
struct Part {
  Call call = Call::kBarrier;
  uint8_t detail = 0;  // root of a broadcast, element type of a sum (partial sums of bf16 travel as float)
  uint8_t phase = 0;   // of the algorithm
  uint8_t scheme = 0;  // which algorithm, where there are several
  uint32_t total = 0;  // elements of the whole call (a pair's, in AllGather and AllToAll), modulo 2^32

  bool operator==(const Part&) const = default;
};
uint64_t Pack(const Part& part);
Part UnpackPart(uint64_t packed);
// "AllReduce of 12 elements".
std::string Describe(const Part& part);

// A message to a rank: one whole frame, in memory of its own, so that the caller's buffers are free to change.
struct Outgoing {
  int to = 0;
  std::vector<std::byte> message;
};

// A message from a rank: parsed, of this job, view and collective.
struct Incoming {
  int from = 0;
  FrameHeader header;
  std::vector<std::byte> message;

  std::span<std::byte> payload() { return std::span(message).subspan(kFrameHeaderBytes); }
  int64_t count() const { return header.payload_bytes / ElementBytes(header.dtype); }
};

// Where a collective puts its messages.
class Outbox {
 public:
  explicit Outbox(const Group& group) : group_(group), unsent_(static_cast<size_t>(group.size)) {}

  // `payload`, elements of `dtype` from `offset` on, to a rank.
  void Send(int to, const Part& part, DType dtype, int64_t offset, std::span<const std::byte> payload);
  // The same with a payload that lies behind kFrameHeaderBytes of room in `message`: nothing is copied.
  void SendInPlace(int to, const Part& part, DType dtype, int64_t offset, std::vector<std::byte> message);
  // What was received, unchanged.
  void Forward(int to, std::vector<std::byte> message);

  // Of the messages to a rank those that have not left yet.
  int unsent(int to) const { return unsent_[static_cast<size_t>(to)]; }
  int unsent() const { return unsent_total_; }
  const Group& group() const { return group_; }

  // The session's.
  void set_sequence(int64_t sequence) { sequence_ = sequence; }
  void CountSent(int to);
  std::vector<Outgoing> Take() { return std::exchange(messages_, {}); }

 private:
  FrameHeader Header(const Part& part, DType dtype, int64_t offset, size_t payload_bytes) const;
  void Put(int to, std::vector<std::byte> message);

  const Group group_;
  int64_t sequence_ = 0;
  std::vector<int> unsent_;
  int unsent_total_ = 0;
  std::vector<Outgoing> messages_;
};

class Collective {
 public:
  virtual ~Collective() = default;
  virtual void Begin(Outbox& out) = 0;
  // kInvalidArgument if the message is not what this rank expects next from that one: another call, another size,
  // a gap, a repeat. Messages of one rank come in the order in which it sent them.
  virtual Status Receive(Incoming in, Outbox& out) = 0;
  // One of the messages to `to` has left: there is room for the next.
  virtual void Sent(int /*to*/, Outbox& /*out*/) {}
  // It sends more when there is room, so it wants to hear of each message that left at once.
  virtual bool WaitsForRoom() const { return false; }
  // All is received, and all is in the outbox.
  virtual bool done() const = 0;
  // Something from that rank is still to come.
  virtual bool Needs(int from) const = 0;
  virtual Part part() const = 0;  // for messages to people
};

struct ChunkOptions {
  int64_t chunk_bytes = 256 << 10;
  int window = 4;  // chunks on their way that a rank has begun and nobody has finished
};

// What a rank expected and what it found, as a status that names the sender.
Status Unexpected(const Incoming& in, const Part& expected, std::string_view what);
// The checks that every collective makes first: the same call, the same root and algorithm, total and element type.
Status CheckSameCall(const Incoming& in, const Part& expected, DType dtype);

}  // namespace dtrain
