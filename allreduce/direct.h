// All-to-all and all-gather: each pair of ranks exchanges what is for the other, straight.
// Messages in sequence: 1 when a pair's bytes are one chunk. Payload sent by a rank: what it has for all others; in an
// all-gather of equal parts that are B bytes in all, (N - 1)/N B, as in a ring.
#pragma once
#include "allreduce/collective.h"

namespace dtrain {

class DirectExchange final : public Collective {
 public:
  // to[j] to rank j, from[i] from rank i; one of each for every rank. They do not overlap. `call` is kAllToAll or
  // kAllGather (where all of `to` are the same).
  DirectExchange(const Group& group, Call call, std::vector<std::span<const std::byte>> to, std::vector<std::span<std::byte>> from,
                 const ChunkOptions& options);

  void Begin(Outbox& out) override;
  Status Receive(Incoming in, Outbox& out) override;
  void Sent(int to, Outbox& out) override;
  bool WaitsForRoom() const override { return ranks_to_send_ > 0; }
  bool done() const override { return ranks_to_send_ == 0 && ranks_to_receive_ == 0; }
  bool Needs(int from) const override { return from != group_.rank && !peers_[static_cast<size_t>(from)].received_all; }
  Part part() const override { return part_; }

 private:
  struct Peer {
    size_t sent = 0, received = 0;  // bytes
    bool sent_all = false, received_all = false;
  };
  Part PartOf(size_t bytes) const;
  void SendSome(int to, Outbox& out);

  const Group group_;
  const Part part_;
  const std::vector<std::span<const std::byte>> to_;
  const std::vector<std::span<std::byte>> from_;
  const size_t chunk_bytes_;
  const int window_;
  std::vector<Peer> peers_;
  int ranks_to_send_, ranks_to_receive_;
};

}  // namespace dtrain
