// The communicator of ranks that reach each other over links (base/transport.h): a blocking shell around the state machines
// of this folder. Two threads a link, one that sends and one that receives, so that ranks which all send first never wait
// for each other; the caller's thread runs the machines.
// AllReduce goes by recursive doubling up to tree_bytes_max and else round the ring; doubling.h and ring.h say in which
// order each sums. ReduceScatter goes round the ring.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "allreduce/communicator.h"
#include "allreduce/session.h"
#include "base/transport.h"

namespace dtrain {

struct LinkOptions {
  Group group;
  ChunkOptions chunks;
  int64_t tree_bytes_max = 16 << 10;
  // Received from one rank and not used yet; then no more is read from its link until there is room.
  size_t waiting_bytes_max = 16 << 20;
  // A rank that waits polls this: an error ends the wait with it. Never blocks.
  std::function<Status()> health = [] { return OkStatus(); };
};

class LinkCommunicator final : public Communicator {
 public:
  // links[r] leads to rank r; the own entry is null. Who is at the other end was proved before (cluster/handshake.h).
  // kInvalidArgument if a link is missing or the group makes no sense.
  static StatusOr<std::unique_ptr<LinkCommunicator>> Open(std::vector<std::unique_ptr<Link>> links, const LinkOptions& options);
  ~LinkCommunicator() override;

  int rank() const override { return options_.group.rank; }
  int size() const override { return options_.group.size; }
  Status Barrier(Deadline deadline) override;
  Status Broadcast(std::span<std::byte> data, int root, Deadline deadline) override;
  Status AllGatherParts(std::span<const std::byte> mine, std::span<const std::span<std::byte>> parts, Deadline deadline) override;
  Status AllToAll(std::span<const std::span<const std::byte>> to, std::span<const std::span<std::byte>> from, Deadline deadline) override;
  Status AllReduce(Elements data, Deadline deadline) override;
  Status ReduceScatter(ConstElements data, Elements slice, Deadline deadline) override;
  void Abort() override;

  // Not while a call is under way.
  int64_t dropped_of_older_views() const { return session_.dropped_of_older_views(); }

 private:
  struct Peer;
  LinkCommunicator(std::vector<std::unique_ptr<Link>> links, const LinkOptions& options);
  Status Exchange(Call call, std::vector<std::span<const std::byte>> to, std::vector<std::span<std::byte>> from, Deadline deadline);
  Status Run(std::unique_ptr<Collective> collective, Deadline deadline);
  Status RunToItsEnd(std::unique_ptr<Collective> collective, Deadline deadline);
  void SendOne(Peer& peer, std::span<const std::byte> message, Deadline deadline, bool counted, std::unique_lock<std::mutex>& lock);
  void Post(std::vector<Outgoing> messages, Deadline deadline);
  Status HandleEvents();
  Status TakeReceived(Peer& peer, std::unique_lock<std::mutex>& lock);
  bool SomethingHappened() const;
  void ReceiveLoop(Peer& peer);
  void SendLoop(Peer& peer);
  // The communicator is over; the others are told why.
  void End(const Status& why);

  const LinkOptions options_;
  Session session_;  // the calling thread's
  std::mutex mutex_;
  std::condition_variable event_;  // for the calling thread
  std::vector<std::unique_ptr<Peer>> peers_;
  Status ended_;  // OK until it is over
  bool closing_ = false;
  bool wake_when_sent_ = true;  // the calling thread waits for messages to leave, too
};

}  // namespace dtrain
