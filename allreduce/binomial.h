// Broadcast along a binomial tree, chunked and pipelined: a rank hands a chunk on while the next is still coming.
// Counted from the root, rank v gets its chunks from v without its lowest bit. Messages in sequence: log2 N, rounded
// down, when the data is one chunk. Payload sent: B bytes to each of at most log2 N (rounded up) ranks; in all (N - 1) B.
#pragma once
#include "allreduce/collective.h"

namespace dtrain {

class BinomialBroadcast final : public Collective {
 public:
  BinomialBroadcast(const Group& group, std::span<std::byte> data, int root, const ChunkOptions& options);

  void Begin(Outbox& out) override;
  Status Receive(Incoming in, Outbox& out) override;
  void Sent(int to, Outbox& out) override;
  bool WaitsForRoom() const override { return children_to_serve_ > 0; }
  bool done() const override { return received_all_ && children_to_serve_ == 0; }
  bool Needs(int from) const override { return !received_all_ && from == parent_; }
  Part part() const override { return part_; }

 private:
  // Data goes to each child from where it lies, at that child's pace: nothing piles up for a slow one.
  struct Child {
    int rank = 0;
    size_t sent = 0;  // bytes
    bool sent_all = false;
  };
  void SendSome(Child& child, Outbox& out);

  const Group group_;
  const Part part_;
  const std::span<std::byte> data_;
  const size_t chunk_bytes_;
  const int window_;
  int parent_ = -1;
  std::vector<Child> children_;  // the one with most descendants first
  size_t received_ = 0;          // bytes
  bool received_all_ = false;
  size_t children_to_serve_ = 0;
};

}  // namespace dtrain
