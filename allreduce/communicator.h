// Collectives among the ranks of a job. Every rank calls the same operations in the same order with the same sizes; a
// difference that is noticed is kInvalidArgument. Each has a deadline. After any error on a rank the communicator is only
// good for Abort and destruction: that rank has given up, and the waits of all others end with kUnavailable.
// Sums are taken in the order of ranks, so that their bits depend on the number of ranks alone, never on time.
#pragma once
#include <cstddef>
#include <span>

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
  // `mine` of every rank to all ranks; `all` has size() times the size of `mine`, in order of ranks.
  virtual Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all, Deadline deadline) = 0;
  // The sum over ranks, element by element, in place.
  virtual Status AllReduce(std::span<float> data, Deadline deadline) = 0;
  virtual Status AllReduce(std::span<double> data, Deadline deadline) = 0;

  // Ends every wait on every rank that this communicator reaches with kUnavailable; from any thread.
  virtual void Abort() = 0;
};

}  // namespace dtrain
