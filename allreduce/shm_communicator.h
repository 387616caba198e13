// The communicator of ranks on one host: a segment of shared memory (a memfd, so it has no name, nobody else can open
// it and it is gone with its last process), a barrier that spins briefly and then sleeps on a futex.
// Sums are taken in the order of ranks, from the left.
// Beside the collectives it gives out regions of the segment, so that an exchange can read its peers' gradients where
// backward left them, and sums that lie there without a copy.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "allreduce/communicator.h"

namespace dtrain {

struct ShmOptions {
  int rank = 0;
  int size = 1;
  int64_t rank_region_bytes = 0;    // one region a rank, readable by all
  int64_t shared_region_bytes = 0;  // one region for all
  // A rank that waits polls this: an error ends the wait with it. Never blocks.
  std::function<Status()> health = [] { return OkStatus(); };
};

class ShmCommunicator final : public Communicator {
 public:
  // An empty segment; give its descriptor to every rank of the host.
  static StatusOr<int> MakeSegment();

  // Sizes and maps the segment behind `segment_fd` (stays the caller's). Every rank passes the same sizes; a difference
  // is kInvalidArgument on the ranks that differ from rank 0, which waits for them until its deadline.
  // kResourceExhausted when the host has not enough memory for it.
  static StatusOr<std::unique_ptr<ShmCommunicator>> Open(int segment_fd, const ShmOptions& options, Deadline deadline);
  ~ShmCommunicator() override;

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }
  Status Barrier(Deadline deadline) override;
  Status Broadcast(std::span<std::byte> data, int root, Deadline deadline) override;
  Status AllGatherParts(std::span<const std::byte> mine, std::span<const std::span<std::byte>> parts, Deadline deadline) override;
  Status AllToAll(std::span<const std::span<const std::byte>> to, std::span<const std::span<std::byte>> from, Deadline deadline) override;
  Status AllReduce(Elements data, Deadline deadline) override;
  Status ReduceScatter(ConstElements data, Elements slice, Deadline deadline) override;
  void Abort() override;

  // Aligned to a page; zero at first. Who writes when is the caller's to order, by Barrier.
  std::span<std::byte> rank_region(int rank) const;
  std::span<std::byte> shared_region() const;
  // AllReduce of elements that lie in the regions: bytes [offset, offset + bytes) of every rank's region, in place. Each
  // rank sums its slice where it lies and writes the result to all: half the memory traffic of a sum through windows.
  Status AllReduceInRegions(DType dtype, int64_t offset, int64_t bytes, Deadline deadline);

 private:
  struct Header;
  ShmCommunicator(const ShmOptions& options, std::byte* base, int64_t bytes);
  Header& header() const;
  std::byte* stage(int rank) const;
  // A barrier to which all ranks come for the same reason, else kInvalidArgument.
  Status Meet(uint64_t errand, Deadline deadline);
  Status WaitForAll(uint64_t errand, Deadline deadline);
  Status CheckGoingOn() const;
  Status CheckErrands(uint64_t errand, uint32_t generation) const;
  Status Missing(uint32_t generation) const;
  // Two windows a rank, used in turn: what is written to next_window before a meeting is read in met_window behind it,
  // and is written again only before the meeting after the next, to which all came when they had read it.
  std::byte* next_window(int rank) const;
  std::byte* met_window(int rank) const;

  ShmOptions options_;
  std::byte* base_;
  int64_t bytes_;
  uint64_t meets_ = 0;
};

}  // namespace dtrain
