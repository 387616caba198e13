#include "trainer/checkpoint/checkpoint_writer.h"

#include <utility>

#include "base/log.h"

namespace dtrain {
namespace {

int64_t TensorBytes(const Checkpoint& checkpoint) {
  int64_t bytes = 0;
  for (const auto* tensors : {&checkpoint.model, &checkpoint.optimizer}) {
    for (const HostTensor& tensor : *tensors) bytes += static_cast<int64_t>(tensor.bytes.size());
  }
  return bytes;
}

}  // namespace

CheckpointWriter::CheckpointWriter(CheckpointStore& store) : store_(store), thread_([this] { Run(); }) {}

CheckpointWriter::~CheckpointWriter() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
  if (!failure_.ok()) Log(LogLevel::kError, Message(failure_));
}

Status CheckpointWriter::TakeFailure() { return std::exchange(failure_, OkStatus()); }

Status CheckpointWriter::Submit(Checkpoint checkpoint, Deadline deadline) {
  const TimePoint begin = SystemClock().Now();
  std::unique_lock lock(mutex_);
  const bool room = changed_.wait_until(lock, deadline.at, [this] { return !waiting_ || !failure_.ok(); });
  const Duration paused = SystemClock().Now() - begin;
  statistics_.pause_s += Seconds(paused);
  RETURN_IF_ERROR(TakeFailure());
  if (!room) {
    return WithHint(DeadlineExceeded("save the checkpoint of step ", checkpoint.step, ": the one before is still being written after ",
                                     HumanSeconds(Seconds(paused))),
                    "save less often (checkpoint.every) or to a faster disk (run.dir)");
  }
  waiting_ = std::move(checkpoint);
  lock.unlock();
  changed_.notify_all();
  return OkStatus();
}

Status CheckpointWriter::Poll() {
  const std::lock_guard lock(mutex_);
  return TakeFailure();
}

Status CheckpointWriter::Drain(Deadline deadline) {
  const TimePoint begin = SystemClock().Now();
  std::unique_lock lock(mutex_);
  const bool idle = changed_.wait_until(lock, deadline.at, [this] { return !waiting_ && !writing_; });
  RETURN_IF_ERROR(TakeFailure());
  if (idle) return OkStatus();
  return DeadlineExceeded("finish saving: the disk is still writing after ", HumanSeconds(Seconds(SystemClock().Now() - begin)));
}

CheckpointWriterStatistics CheckpointWriter::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void CheckpointWriter::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    // No deadline: the destructor always ends this wait.
    changed_.wait(lock, [this] { return waiting_ || ending_; });
    if (!waiting_) return;
    const Checkpoint checkpoint = *std::exchange(waiting_, std::nullopt);
    writing_ = true;
    lock.unlock();
    changed_.notify_all();
    const TimePoint begin = SystemClock().Now();
    const Status status = store_.Save(checkpoint);
    const double write_s = Seconds(SystemClock().Now() - begin);
    lock.lock();
    writing_ = false;
    statistics_.write_s += write_s;
    if (status.ok()) {
      ++statistics_.saved;
      statistics_.bytes += TensorBytes(checkpoint);
    } else {
      ++statistics_.failed;
      if (failure_.ok()) failure_ = status;
    }
    changed_.notify_all();
  }
}

}  // namespace dtrain
