#include "datasets/loader.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"

namespace dtrain {

// Batches are numbered 0, 1, 2, ... from Start on. Batch b lies in slot b modulo the number of slots, so a slot is free for
// batch b once batch b - slots was given back. A thread takes the next number under the lock and gathers without it.
class Loader::Pool {
 public:
  Pool(std::shared_ptr<const Dataset> dataset, const Sampler& sampler, const LoaderOptions& options)
      : dataset_(std::move(dataset)),
        sampler_(sampler),
        options_(options),
        // One more than is gathered ahead: the one that the training loop holds.
        slots_(options.threads == 0 ? 1 : static_cast<size_t>(options.prefetch_batches) + 1) {
    for (int i = 0; i < options.threads; ++i) threads_.emplace_back([this] { Work(); });
  }

  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void Start(Step first_step, int64_t first_leaf, int64_t leaf_count, Step end_step) {
    DTRAIN_CHECK(first_step >= 0 && first_step <= end_step);
    DTRAIN_CHECK(first_leaf >= 0 && leaf_count > 0 && first_leaf + leaf_count <= sampler_.options().leaves);
    {
      std::unique_lock lock(mutex_);
      started_ = false;  // nobody takes a batch any more; those in work end soon
      done_.wait(lock, [this] { return in_work_ == 0; });
      for (Slot& slot : slots_) slot.filled = false;
      first_step_ = first_step;
      first_leaf_ = first_leaf;
      leaf_count_ = leaf_count;
      batches_ = (end_step - first_step) * leaf_count;
      next_taken_ = next_given_ = 0;
      holding_ = false;
      started_ = true;
    }
    work_.notify_all();
  }

  StatusOr<const Batch*> Next(Deadline deadline) {
    std::unique_lock lock(mutex_);
    if (!started_) return FailedPrecondition("next batch of ", dataset_->schema().name, ": the loader was not started");
    if (holding_) {  // the batch of the call before is given back
      slots_[SlotOf(next_given_)].filled = false;
      ++next_given_;
      holding_ = false;
      if (idle_threads_ > 0) work_.notify_one();
    }
    if (next_given_ == batches_) {
      return OutOfRange("next batch of ", dataset_->schema().name, ": step ", first_step_ + batches_ / leaf_count_, " is the end");
    }
    Slot& slot = slots_[SlotOf(next_given_)];
    if (threads_.empty() && !slot.filled) {
      Take(&slot);
      slot.status = Gather(&slot.batch);
      slot.filled = true;
    }
    waiting_ = true;
    const bool ready = done_.wait_until(lock, deadline.at, [&] { return slot.filled; });
    waiting_ = false;
    if (!ready) {
      return DeadlineExceeded("next batch of ", dataset_->schema().name, ": step ", first_step_ + next_given_ / leaf_count_, ", leaf ",
                              first_leaf_ + next_given_ % leaf_count_, " was not ready in time");
    }
    if (!slot.status.ok()) return slot.status;
    holding_ = true;
    return &slot.batch;
  }

 private:
  struct Slot {
    Batch batch;
    Status status;
    bool filled = false;
  };

  size_t SlotOf(int64_t batch_number) const { return static_cast<size_t>(batch_number) % slots_.size(); }
  // A slot is free unless its batch is ready, in work or held.
  bool CanTake() const { return started_ && next_taken_ < batches_ && next_taken_ < next_given_ + static_cast<int64_t>(slots_.size()); }

  // Says which samples go into `slot`. Under the lock: the sampler is for one thread, and is asked in order.
  void Take(Slot* slot) {
    Batch& batch = slot->batch;
    batch.step = first_step_ + next_taken_ / leaf_count_;
    batch.leaf = first_leaf_ + next_taken_ % leaf_count_;
    batch.epoch = batch.step / sampler_.steps_per_epoch();
    batch.first_position = sampler_.FirstPosition(batch.step, batch.leaf);
    sampler_.Indices(batch.step, batch.leaf, &batch.indices);
    ++next_taken_;
  }

  // A set of a user's own may throw, and nothing may leave a thread that way.
  Status Gather(Batch* batch) const {
    const AugmentContext augment = {.seed = sampler_.options().seed, .epoch = batch->epoch};
    try {
      return dataset_->Gather(batch->indices, options_.augment ? &augment : nullptr, batch);
    } catch (const std::exception& error) {
      return Internal("gather step ", batch->step, ", leaf ", batch->leaf, " of ", dataset_->schema().name, ": ", error.what());
    }
  }

  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      ++idle_threads_;
      work_.wait(lock, [this] { return stopping_ || CanTake(); });
      --idle_threads_;
      if (stopping_) return;
      Slot& slot = slots_[SlotOf(next_taken_)];
      Take(&slot);
      ++in_work_;
      lock.unlock();
      Status status = Gather(&slot.batch);
      lock.lock();
      slot.status = std::move(status);
      slot.filled = true;
      --in_work_;
      if (waiting_ || !started_) {
        // Without the lock: who wakes up while it is held only goes to sleep again.
        lock.unlock();
        done_.notify_one();
        lock.lock();
      }
    }
  }

  const std::shared_ptr<const Dataset> dataset_;
  Sampler sampler_;
  const LoaderOptions options_;

  std::mutex mutex_;
  std::condition_variable work_;  // for the threads: something to take, or the end
  std::condition_variable done_;  // for Next and Start: a batch is filled
  std::vector<Slot> slots_;
  bool started_ = false, stopping_ = false;
  Step first_step_ = 0;
  int64_t first_leaf_ = 0, leaf_count_ = 1;
  int64_t batches_ = 0;     // from Start to the end
  int64_t next_taken_ = 0;  // to be gathered
  int64_t next_given_ = 0;  // to be handed out, or held
  bool holding_ = false;    // the training loop has batch next_given_
  bool waiting_ = false;    // Next waits for done_
  int idle_threads_ = 0, in_work_ = 0;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

StatusOr<std::unique_ptr<Loader>> Loader::Make(std::shared_ptr<const Dataset> dataset, const Sampler& sampler,
                                               const LoaderOptions& options) {
  constexpr int kThreadsMax = 256, kPrefetchMax = 4096;
  if (options.threads < 0 || options.threads > kThreadsMax)
    return InvalidArgument("loader threads: found ", options.threads, ", expected 0 to ", kThreadsMax);
  if (options.threads > 0 && (options.prefetch_batches < 1 || options.prefetch_batches > kPrefetchMax)) {
    return InvalidArgument("loader prefetch: found ", options.prefetch_batches, " batches, expected 1 to ", kPrefetchMax);
  }
  if (sampler.options().dataset_size != dataset->size()) {
    return InvalidArgument("load ", dataset->schema().name, ": it has ", WithCommas(dataset->size()), " samples, the sampler is for ",
                           WithCommas(sampler.options().dataset_size));
  }
  return std::unique_ptr<Loader>(new Loader(std::make_unique<Pool>(std::move(dataset), sampler, options)));
}

Loader::Loader(std::unique_ptr<Pool> pool) : pool_(std::move(pool)) {}
Loader::~Loader() = default;

void Loader::Start(Step first_step, int64_t first_leaf, int64_t leaf_count, Step end_step) {
  pool_->Start(first_step, first_leaf, leaf_count, end_step);
}

StatusOr<const Batch*> Loader::Next(Deadline deadline) { return pool_->Next(deadline); }

}  // namespace dtrain
