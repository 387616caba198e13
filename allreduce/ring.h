// Ring reduce-scatter and all-reduce, after Patarasuk and Yuan, "Bandwidth Optimal All-reduce Algorithms for Clusters of
// Workstations", JPDC 2009. Chunked and pipelined: a chunk goes on to the next rank as soon as its own numbers are added.
// Slice s (SliceOf) starts at rank s + 1 and is complete at rank s after N - 1 hops; in an all-reduce it then goes round
// once more, N - 1 hops from rank s to rank s - 1.
// Order of a sum in slice s: ranks s + 1, s + 2, ..., s + N - 1, s (modulo N), from the left.
// Messages in sequence: N - 1 (all-reduce: 2(N - 1)) when a slice is one chunk. Payload sent by a rank, B bytes in all:
// (N - 1)/N B for each of the two phases, give or take one element; bf16 travels as float in the first, so twice that.
#pragma once
#include <algorithm>

#include "allreduce/collective.h"
#include "allreduce/elements.h"

namespace dtrain {

class RingReduce final : public Collective {
 public:
  // All-reduce of `data`, in place.
  RingReduce(const Group& group, Elements data, const ChunkOptions& options);
  // Reduce-scatter: the sum of this rank's slice of `data` to `slice`.
  RingReduce(const Group& group, ConstElements data, Elements slice, const ChunkOptions& options);

  void Begin(Outbox& out) override;
  Status Receive(Incoming in, Outbox& out) override;
  bool done() const override;
  bool Needs(int from) const override;
  Part part() const override { return part_; }

 private:
  static constexpr uint8_t kReduce = 0, kGather = 1;
  RingReduce(const Group& group, ConstElements data, Elements result, const ChunkOptions& options, bool gather);
  int Rank(int rank) const { return ((rank % group_.size) + group_.size) % group_.size; }
  ElementRange Slice(int rank) const { return SliceOf(data_.count(), rank, group_.size); }
  int SliceAt(int64_t element) const;
  Part InPhase(uint8_t phase) const;
  int64_t Chunk(int64_t begin, int64_t end) const { return std::min(chunk_elements_, end - begin); }
  // Begins own chunks as long as few are on their way. Each that ends its way here lets the next begin, so that never more
  // than window * N are between the ranks and no queue grows longer, whoever is slow. Slices differ by one chunk at most,
  // so there is always one that ends as long as one has to begin.
  void BeginChunks(Outbox& out);
  void Reduce(Incoming in, int slice, Outbox& out);
  void Gather(Incoming in, int slice, Outbox& out);
  void EndChunk(Outbox& out);

  const Group group_;
  const bool gather_;
  const ConstElements data_;
  std::byte* const all_;    // the whole result; null if not wanted
  std::byte* const slice_;  // this rank's slice of it
  const Part part_;
  const int64_t element_bytes_, chunk_elements_;
  const int window_;
  int64_t begun_ = 0;  // element up to which the slice that starts here is on its way
  int64_t chunks_begun_ = 0, chunks_ended_ = 0;
  std::vector<int64_t> next_[2];  // by phase and slice: the element that must come next
  int64_t missing_ = 0;           // elements still to come
};

}  // namespace dtrain
