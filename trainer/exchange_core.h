// The part of an exchange that is the same for all: which step is open, what was offered, what the scalars of an update
// are. A state machine without threads; the exchanges add how gradients get together.
#pragma once
#include <chrono>
#include <vector>

#include "trainer/exchange.h"
#include "trainer/parameter_store.h"

namespace dtrain {

// kInvalidArgument says which option is out of its range.
Status CheckExchangeOptions(const ExchangeOptions& options);

// Multiplies `values` by `factor`, in float.
void Scale(std::span<float> values, double factor);

// Seconds between laps.
class PhaseTimer {
 public:
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

class ExchangeCore {
 public:
  ExchangeCore(const ExchangeOptions& options, ParameterStore store, std::vector<Bucket> buckets);

  const ExchangeOptions& options() const { return options_; }
  const ParameterStore& store() const { return store_; }
  const FlatLayout& layout() const { return store_.flat().layout; }
  const std::vector<Bucket>& buckets() const { return buckets_; }
  Step step() const { return step_; }  // the open one, or the one to begin next
  int64_t updates() const { return updates_; }
  bool needs_norm() const { return options_.clip_norm > 0 || options_.nan_policy != NanPolicy::kStop; }

  StatusOr<Assignment> Begin(Step step, View view, LeafRange leaves);
  Status Offer(Step step, BucketId bucket);
  Status CheckFinish(Step step, const StepInput& input) const;  // OK if `step` is open, every bucket offered, `input` whole
  // Blocks [first, second) of the layout that lie in `range`, which begins and ends on blocks.
  std::pair<size_t, size_t> BlocksIn(ElementRange range) const;
  // visit(index, range) for every block that lies in `within`, on all threads. Each thread has the same part of each tensor:
  // LibTorch's products cut matrices in the same way, so a thread finds in its cache what it has written.
  void ForBlocks(ElementRange within, const std::function<void(size_t index, ElementRange range)>& visit) const;
  ElementRange whole() const { return {0, layout().elements}; }
  // This rank's gradient of block `index` of the layout.
  const float* gradient_of_block(size_t index, const StepInput& input) const;

  // This rank's word on each entry into `bytes`, one an entry; then what all ranks said, one after the other.
  void SayTouched(const StepInput& input, std::span<uint8_t> bytes) const;
  void TakeTouched(std::span<const std::span<const uint8_t>> of_ranks, StepReport* report);
  // Whether block `index` is to be updated.
  bool touched(size_t index) const { return !options_.skip_untouched || touched_[entry_of_block_[index]] != 0; }

  // Puts the norm of the mean gradient into `report` from the square sums of all blocks; not finite if they are not.
  void TakeNorm(const std::vector<double>& block_square_sums, StepReport* report) const;
  // Of the update that applies `report`'s gradient: learning rate of the open step, 1 / weight times the clip coefficient.
  UpdateScalars Scalars(const StepReport& report) const;

  // The buffers of the next step by the buffer rule, from the sums of every rank over its leaves.
  void CombineBuffers(std::span<const std::span<const float>> sums, const LeafShares& shares, int rank) const;

  // What holds from the next Begin on; said before Close.
  void Take(const Decisions& decisions) { decisions_ = decisions; }
  void Close(const StepReport& report);
  StatusOr<ExchangeState> Snapshot() const;
  void Restart(const ExchangeState& state);
  // All of a state, for an exchange whose rank holds whole parameters of its own.
  Status Load(const ExchangeState& state);

 private:
  ExchangeOptions options_;
  ParameterStore store_;
  std::vector<Bucket> buckets_;
  std::vector<bool> offered_;
  std::vector<int32_t> entry_of_block_;
  std::vector<uint8_t> touched_;
  TreeSumPlan block_plan_;
  Decisions decisions_;
  Step step_ = 0;
  int64_t updates_ = 0;
  double learning_rate_ = 0;
  bool open_ = false;
};

}  // namespace dtrain
