// Collectives among the ranks of a job. Every rank calls the same operations in the same order with sizes that agree; a
// difference that is noticed is kInvalidArgument. Each has a deadline. After any error on a rank the communicator is only
// good for Abort and destruction: that rank has given up, and the waits of all others end with kUnavailable.
// The order in which a sum is taken depends on the number of ranks, of elements and the element's place alone, never on
// time; each implementation says which it is. Sums of bf16 are taken in float and rounded once; those of int64 wrap.
#pragma once
#include <cstddef>
#include <span>

#include "allreduce/elements.h"
#include "base/clock.h"
#include "base/status.h"

namespace dtrain {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Returns on no rank before all ranks have called it. kDeadlineExceeded names the ranks that did not come;
  // kUnavailable once the job failed or somebody aborted, with the cause.
  virtual Status Barrier(Deadline deadline) = 0;
  // `data` of rank `root` to all ranks.
  virtual Status Broadcast(std::span<std::byte> data, int root, Deadline deadline) = 0;
  // `mine` of every rank to all ranks; `all` has size() times the size of `mine`, in order of ranks. `mine` may be its own
  // place in `all`.
  Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all, Deadline deadline);
  // The same with parts of any size: `mine` of rank r arrives in parts[r] of every rank, which has its size.
  virtual Status AllGatherParts(std::span<const std::byte> mine, std::span<const std::span<std::byte>> parts, Deadline deadline) = 0;
  // to[j] goes straight to rank j; from[i] is what rank i sends here and has its size. One of each for every rank, of any
  // size. The two do not overlap.
  virtual Status AllToAll(std::span<const std::span<const std::byte>> to, std::span<const std::span<std::byte>> from,
                          Deadline deadline) = 0;
  // The sum over ranks, element by element, in place.
  virtual Status AllReduce(Elements data, Deadline deadline) = 0;
  // The same, but a rank gets only SliceOf(data.count(), rank(), size()) of it, in `slice`. `slice` may be that place
  // in `data`, else they do not overlap; the rest of `data` is not written.
  virtual Status ReduceScatter(ConstElements data, Elements slice, Deadline deadline) = 0;

  // Ends every wait on every rank that this communicator reaches with kUnavailable; from any thread.
  virtual void Abort() = 0;
};

}  // namespace dtrain
