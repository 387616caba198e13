// Saves checkpoints in a thread of its own, so that training goes on from the moment its state is copied.
// At most one checkpoint is being written and one waits: memory is bounded, and a disk that is too slow shows up as pause
// rather than as a queue. One thread calls; the store belongs to the writer until it is gone.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/status.h"
#include "trainer/checkpoint/checkpoint_store.h"

namespace dtrain {

struct CheckpointWriterStatistics {
  int64_t saved = 0, failed = 0;
  double pause_s = 0;  // that Submit made the caller wait
  double write_s = 0;  // that the writer spent in Save
  int64_t bytes = 0;   // of tensors in what was saved
};

class CheckpointWriter {
 public:
  explicit CheckpointWriter(CheckpointStore& store);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  // Writes what was submitted, however long the disk takes; Drain first where that must be bounded. An error that nobody
  // collected is logged.
  ~CheckpointWriter();

  // Hands over a checkpoint; waits while one is being written and another waits. The error of an earlier save comes back
  // here, once, and then `checkpoint` was not taken. kDeadlineExceeded: not taken either.
  Status Submit(Checkpoint checkpoint, Deadline deadline);
  // The error of an earlier save, once; never waits. Ask it every step.
  Status Poll();
  // OK once all that was submitted is on the disk. The error of a save, once; kDeadlineExceeded.
  Status Drain(Deadline deadline);

  CheckpointWriterStatistics statistics() const;

 private:
  void Run();
  Status TakeFailure();  // under the lock

  CheckpointStore& store_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Checkpoint> waiting_;
  bool writing_ = false;
  bool ending_ = false;
  Status failure_;  // the first that nobody collected
  CheckpointWriterStatistics statistics_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace dtrain
