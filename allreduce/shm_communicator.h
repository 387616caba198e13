// The communicator of ranks on one host: a segment of shared memory (a memfd, so it has no name, nobody else can open
// it and it is gone with its last process), a barrier that spins briefly and then sleeps on a futex.
// Beside the collectives it gives out regions of the segment, so that an exchange can read its peers' gradients where
// backward left them.
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
  Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all, Deadline deadline) override;
  Status AllReduce(std::span<float> data, Deadline deadline) override;
  Status AllReduce(std::span<double> data, Deadline deadline) override;
  void Abort() override;

  // Aligned to a page; zero at first. Who writes when is the caller's to order, by Barrier.
  std::span<std::byte> rank_region(int rank) const;
  std::span<std::byte> shared_region() const;

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
  template <typename T>
  Status SumOverRanks(std::span<T> data, Deadline deadline);

  ShmOptions options_;
  std::byte* base_;
  int64_t bytes_;
};

}  // namespace dtrain
