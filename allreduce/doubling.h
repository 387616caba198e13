// All-reduce of small buffers, and the barrier (an all-reduce of nothing), by recursive doubling, after Thakur,
// Rabenseifner and Gropp, "Optimization of Collective Communication Operations in MPICH", IJHPCA 2005.
// Let P be the largest power of two up to N. The first 2(N - P) ranks pair up: the even one gives its numbers to the odd
// one, and gets the result from it at the end. The P ranks that are left exchange their sums with the one at distance
// 1, 2, 4, ...
// Order of a sum: the balanced tree over those P, whose leaves are ranks or such pairs, in order of ranks; lower plus upper.
// Messages in sequence: log2 P, and 1 or 2 more if N is no power of two. Payload sent by a rank, B bytes in all: B log2 P at
// most, and B more for the odd of a pair, only B for the even; sums of bf16 travel as float.
#pragma once
#include "allreduce/collective.h"
#include "allreduce/elements.h"

namespace dtrain {

class Doubling final : public Collective {
 public:
  // All-reduce of `data`, in place.
  Doubling(const Group& group, Elements data, const ChunkOptions& options);
  // Barrier.
  explicit Doubling(const Group& group);

  void Begin(Outbox& out) override;
  Status Receive(Incoming in, Outbox& out) override;
  bool done() const override { return done_; }
  bool Needs(int from) const override;
  Part part() const override { return part_; }

 private:
  Doubling(const Group& group, const Part& part, Elements data, const ChunkOptions& options);
  // What one message may bring at a time: phase 0 the numbers of the even of a pair, phase k the sums of the partner at
  // distance 2^(k - 1), the last phase the result. A partner may be a phase ahead, so what it sends is kept until its turn.
  struct Phase {
    int from = -1;  // -1: nothing comes
    std::vector<std::byte> arrived;
    bool whole = false;
  };
  int RankOf(int place) const { return place < pairs_ ? 2 * place + 1 : place + pairs_; }
  size_t last_phase() const { return phases_.size() - 1; }
  void Give(int to, size_t phase, DType dtype, std::span<const std::byte> bytes, Outbox& out) const;
  void GoOn(Outbox& out);

  const Group group_;
  const Part part_;
  const Elements data_;
  const DType wire_;
  const int64_t chunk_elements_;
  int pairs_ = 0, place_ = 0, rounds_ = 0;
  bool gives_away_ = false;  // the even of a pair
  std::vector<std::byte> sum_;
  std::vector<Phase> phases_;
  size_t next_ = 0;
  bool done_ = false;
};

}  // namespace dtrain
