#include "trainer/local_exchange.h"

#include <cmath>

#include "base/check.h"
#include "optim/block_sums.h"
#include "trainer/exchange_core.h"
#include "trainer/flat_memory.h"

namespace dtrain {
namespace {

class LocalExchange final : public GradientExchange {
 public:
  LocalExchange(const ExchangeOptions& options, ParameterStore store, std::vector<Bucket> buckets, LeafShares shares, FlatMemory memory)
      : memory_(std::move(memory)),
        core_(options, std::move(store), std::move(buckets)),
        shares_(std::move(shares)),
        block_sums_(core_.layout().blocks.size()) {}

  const FlatBuffers& flat() const override { return core_.store().flat(); }
  const std::vector<Bucket>& buckets() const override { return core_.buckets(); }

  StatusOr<Assignment> Begin(Step step, Deadline) override { return core_.Begin(step, View{0, {0}}, LeafRange{0, core_.options().leaves}); }

  Status Offer(Step step, BucketId bucket) override { return core_.Offer(step, bucket); }

  StatusOr<StepReport> Finish(Step step, const StepInput& input, Deadline) override {
    RETURN_IF_ERROR(core_.CheckFinish(step, input));
    PhaseTimer timer;
    StepReport report{.weight = input.weight, .loss_sum = input.loss_sum, .finite = input.finite};
    touched_.resize(core_.layout().entries.size());
    core_.SayTouched(input, touched_);
    const std::span<const uint8_t> touched = touched_;
    core_.TakeTouched({&touched, 1}, &report);
    if (report.finite && core_.needs_norm()) {
      ForBlocks(input,
                [this](size_t block, ElementRange, std::span<const float> gradients) { block_sums_[block] = BlockSquareSum(gradients); });
      core_.TakeNorm(block_sums_, &report);
    }
    report.reduce_s = timer.Lap();
    report.applied = report.finite && report.weight > 0;
    if (report.applied) {
      const UpdateScalars scalars = core_.Scalars(report);
      if (core_.options().apply == ApplyBy::kExchange) {
        ForBlocks(input, [&](size_t index, ElementRange range, std::span<const float> gradients) {
          if (core_.touched(index)) core_.store().Apply(scalars, range, gradients);
        });
      } else {
        Scale(flat().gradients, scalars.gradient_scale);
      }
      const std::span<const float> sums = flat().buffer_sums;
      core_.CombineBuffers({&sums, 1}, shares_, 0);
    }
    report.apply_s = timer.Lap();
    core_.Take(core_.options().decide());
    core_.Close(report);
    return report;
  }

  StatusOr<ExchangeState> Snapshot() override { return core_.Snapshot(); }

  Status Load(const ExchangeState& state) override { return core_.Load(state); }

 private:
  // visit(index, range, its gradients) for every block, on all threads. Padding between tensors is left out: its
  // gradients are zero and its parameters are never read.
  template <typename Visit>
  void ForBlocks(const StepInput& input, const Visit& visit) const {
    core_.ForBlocks(core_.whole(), [&](size_t index, ElementRange range) {
      visit(index, range, std::span(core_.gradient_of_block(index, input), range.size()));
    });
  }

  FlatMemory memory_;
  ExchangeCore core_;
  LeafShares shares_;  // all leaves are of one rank
  std::vector<double> block_sums_;
  std::vector<uint8_t> touched_;
};

}  // namespace

StatusOr<std::unique_ptr<GradientExchange>> MakeLocalExchange(const ExchangeOptions& options, const FlatLayout& layout,
                                                              const FlatLayout& buffer_layout) {
  RETURN_IF_ERROR(CheckExchangeOptions(options));
  ASSIGN_OR_RETURN(auto shares, ShareLeaves(options.leaves, 1, options.reproducible));
  ASSIGN_OR_RETURN(std::shared_ptr<const Optimizer> optimizer,
                   MakeOptimizer(options.apply == ApplyBy::kCaller ? OptimizerOptions{} : options.optimizer));
  ASSIGN_OR_RETURN(auto buckets, PlanBuckets(layout, options.buckets));
  const int64_t elements = layout.elements, buffer_elements = buffer_layout.elements;
  const auto slot_count = static_cast<int64_t>(optimizer->slot_names().size());
  const int64_t kept = options.place == GradientPlace::kInPlace ? elements : 0;
  ASSIGN_OR_RETURN(auto memory, FlatMemory::Make({elements, elements - kept, buffer_elements, buffer_elements, slot_count * elements}));
  FlatBuffers flat{layout, memory.part(0), memory.part(1), {0, kept}, buffer_layout, memory.part(2), memory.part(3)};
  std::vector<std::span<float>> slots;
  for (int64_t slot = 0; slot < slot_count; ++slot) slots.push_back(memory.part(4).subspan(slot * elements, elements));
  ParameterStore store(std::move(flat), std::move(slots), std::move(optimizer), options.groups);
  return std::make_unique<LocalExchange>(options, std::move(store), std::move(buckets), std::move(shares), std::move(memory));
}

}  // namespace dtrain
