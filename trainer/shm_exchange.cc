#include "trainer/shm_exchange.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "optim/accumulate.h"
#include "optim/block_sums.h"
#include "trainer/exchange_core.h"
#include "trainer/flat_memory.h"

namespace dtrain {
namespace {

// What a rank tells the others about its part of a step; at the start of its region.
struct StepHeader {
  Step step;
  double weight, loss_sum;
  Decisions decisions;  // of rank 0
  bool finite;
};

// Where things lie in the regions, in floats. All offsets are multiples of a cache line.
struct SegmentLayout {
  static constexpr int64_t kHeaderFloats = 64;
  int64_t elements, gradient_elements, buffer_elements, slots, blocks, entries;
  bool sums_needed, parameters_shared, own_slice_kept;

  static int64_t Aligned(int64_t floats) { return (floats + 15) / 16 * 16; }
  int64_t gradients() const { return kHeaderFloats; }
  int64_t buffer_sums() const { return gradients() + Aligned(gradient_elements); }
  int64_t touched() const { return buffer_sums() + Aligned(buffer_elements); }  // a byte an entry
  int64_t rank_floats() const { return touched() + Aligned((entries + 3) / 4); }

  int64_t block_sums() const { return 0; }  // doubles
  int64_t parameters() const { return Aligned(2 * blocks); }
  int64_t sums() const { return parameters() + (parameters_shared ? Aligned(elements) : 0); }
  int64_t slot(int64_t index) const { return sums() + (sums_needed ? Aligned(elements) : 0) + index * Aligned(elements); }
  int64_t shared_floats() const { return slot(slots); }
};

std::span<float> Floats(std::span<std::byte> region, int64_t offset, int64_t count) {
  return {reinterpret_cast<float*>(region.data()) + offset, static_cast<size_t>(count)};
}

class ShmExchange final : public GradientExchange {
 public:
  ShmExchange(const ExchangeOptions& options, std::unique_ptr<ShmCommunicator> communicator, const SegmentLayout& where,
              ParameterStore store, std::vector<Bucket> buckets, LeafShares shares, FlatMemory memory)
      : communicator_(std::move(communicator)),
        where_(where),
        memory_(std::move(memory)),
        core_(options, std::move(store), std::move(buckets)),
        shares_(std::move(shares)),
        slices_(SliceByBlocks(core_.layout(), communicator_->size())),
        slice_(slices_[communicator_->rank()]) {
    for (int rank = 0; rank < communicator_->size(); ++rank) {
      view_.ranks.push_back(rank);
      const auto region = communicator_->rank_region(rank);
      headers_.push_back(reinterpret_cast<StepHeader*>(region.data()));
      // Of this rank's slice. Where ranks keep their own slice, it is missing in what they offer.
      const int64_t missing = where_.own_slice_kept && slices_[rank].begin < slice_.begin ? slices_[rank].size() : 0;
      gradients_.push_back(Floats(region, where_.gradients(), where_.elements).data() + slice_.begin - missing);
      touched_.push_back({reinterpret_cast<uint8_t*>(Floats(region, where_.touched(), 0).data()), static_cast<size_t>(where_.entries)});
      buffer_sums_.push_back(Floats(region, where_.buffer_sums(), where_.buffer_elements).data());
    }
    const auto shared = communicator_->shared_region();
    block_sums_ = {reinterpret_cast<double*>(shared.data()), static_cast<size_t>(where_.blocks)};
    if (where_.sums_needed) sums_ = Floats(shared, where_.sums(), where_.elements);
  }

  const FlatBuffers& flat() const override { return core_.store().flat(); }
  const std::vector<Bucket>& buckets() const override { return core_.buckets(); }

  StatusOr<Assignment> Begin(Step step, Deadline) override { return core_.Begin(step, view_, shares_.of_rank[communicator_->rank()]); }

  Status Offer(Step step, BucketId bucket) override { return core_.Offer(step, bucket); }

  StatusOr<StepReport> Finish(Step step, const StepInput& input, Deadline deadline) override {
    RETURN_IF_ERROR(core_.CheckFinish(step, input));
    PhaseTimer timer;
    StepHeader& mine = *headers_[communicator_->rank()];
    mine = {step, input.weight, input.loss_sum, communicator_->rank() == 0 ? core_.options().decide() : Decisions{}, input.finite};
    core_.SayTouched(input, touched_[communicator_->rank()]);
    RETURN_IF_ERROR(Wait("wait_for_gradients", step, deadline));  // phase 1: every gradient is complete
    StepReport report{.ranks = communicator_->size(),
                      .bytes = static_cast<int64_t>(slice_.size() * sizeof(float)) * (communicator_->size() + 1)};
    report.wait_s = timer.Lap();
    RETURN_IF_ERROR(ReadHeaders(step, &report));
    const bool caller_applies = core_.options().apply == ApplyBy::kCaller;
    if (report.finite && where_.sums_needed) {
      SumSlice(input, core_.needs_norm());
      report.reduce_s = timer.Lap();
      RETURN_IF_ERROR(Wait("wait_for_sums", step, deadline));  // phase 2: all sums are complete and everyone knows it
      report.wait_s += timer.Lap();
      if (core_.needs_norm()) core_.TakeNorm({block_sums_.begin(), block_sums_.end()}, &report);
    }
    report.applied = report.finite && report.weight > 0;
    if (report.applied) {
      const TraceScope scope(core_.options().trace, "update", TraceThread::kCompute, step);
      const UpdateScalars scalars = core_.Scalars(report);
      if (caller_applies) {
        std::memcpy(flat().gradients.data(), sums_.data(), sums_.size_bytes());
        Scale(flat().gradients, scalars.gradient_scale);
      } else if (where_.sums_needed) {
        core_.ForBlocks(slice_, [&](size_t index, ElementRange block) {
          if (core_.touched(index)) core_.store().Apply(scalars, block, std::span<const float>(sums_).subspan(block.begin, block.size()));
        });
      } else {
        SumAndApplySlice(input, scalars);
      }
      AverageBuffers();
    }
    report.apply_s = timer.Lap();
    RETURN_IF_ERROR(Wait("wait_for_updates", step, deadline));  // phase 3: parameters are those of the next step, headers are read
    report.wait_s += timer.Lap();
    core_.Close(report);
    return report;
  }

  StatusOr<ExchangeState> Snapshot() override { return core_.Snapshot(); }

  Status Load(const ExchangeState& state) override {
    // All ranks pass the same state, so they agree on whether it fits.
    RETURN_IF_ERROR(core_.store().Check(state));
    const Deadline deadline = Deadline::In(std::chrono::minutes(10));
    RETURN_IF_ERROR(communicator_->Barrier(deadline));  // nobody reads the parameters any more
    core_.store().Place(state, core_.options().apply == ApplyBy::kCaller ? ElementRange{0, where_.elements} : slice_);
    core_.store().PlaceBuffers(state);
    core_.Restart(state);
    return communicator_->Barrier(deadline);
  }

 private:
  Status Wait(const char* what, Step step, Deadline deadline) {
    const TraceScope scope(core_.options().trace, what, TraceThread::kCompute, step);
    return communicator_->Barrier(deadline);
  }

  Status ReadHeaders(Step step, StepReport* report) {
    std::vector<double> weights, losses;
    for (int rank = 0; rank < communicator_->size(); ++rank) {
      const StepHeader& header = *headers_[rank];
      if (header.step != step) {
        return Internal("finish step ", step, ": rank ", rank, " is at step ", header.step, "; all ranks must be at the same step");
      }
      weights.push_back(header.weight);
      losses.push_back(header.loss_sum);
      report->finite = report->finite && header.finite;
    }
    report->weight = TreeSum(shares_.sum_over_ranks, weights);
    report->loss_sum = TreeSum(shares_.sum_over_ranks, losses);
    core_.Take(headers_[0]->decisions);
    core_.TakeTouched(std::vector<std::span<const uint8_t>>(touched_.begin(), touched_.end()), report);
    return OkStatus();
  }

  // The sum over ranks of block `index`, which lies in this rank's slice, into `sums`.
  void SumBlock(size_t index, const StepInput& input, float* sums) const {
    const ElementRange block = core_.layout().blocks[index];
    std::array<const float*, 64> operands;
    for (size_t rank = 0; rank < gradients_.size(); ++rank) operands[rank] = gradients_[rank] + (block.begin - slice_.begin);
    operands[communicator_->rank()] = core_.gradient_of_block(index, input);
    TreeSumBlock(shares_.sum_over_ranks, std::span(operands).first(gradients_.size()), block.size(), sums);
  }

  void SumSlice(const StepInput& input, bool with_norm) {
    core_.ForBlocks(slice_, [&](size_t index, ElementRange block) {
      SumBlock(index, input, sums_.data() + block.begin);
      if (with_norm) block_sums_[index] = BlockSquareSum(std::span<const float>(sums_).subspan(block.begin, block.size()));
    });
  }

  void SumAndApplySlice(const StepInput& input, const UpdateScalars& scalars) {
    core_.ForBlocks(slice_, [&](size_t index, ElementRange block) {
      alignas(64) std::array<float, kBlockElements> sums;
      SumBlock(index, input, sums.data());
      if (core_.touched(index)) core_.store().Apply(scalars, block, std::span<const float>(sums).first(block.size()));
    });
  }

  void AverageBuffers() const {
    std::vector<std::span<const float>> sums;
    for (const float* of_rank : buffer_sums_) sums.emplace_back(of_rank, flat().buffer_sums.size());
    core_.CombineBuffers(sums, shares_, communicator_->rank());
  }

  std::unique_ptr<ShmCommunicator> communicator_;
  SegmentLayout where_;
  FlatMemory memory_;
  ExchangeCore core_;
  LeafShares shares_;
  std::vector<ElementRange> slices_;
  ElementRange slice_;
  View view_;
  std::vector<StepHeader*> headers_;
  std::vector<const float*> gradients_, buffer_sums_;
  std::vector<std::span<uint8_t>> touched_;
  std::span<double> block_sums_;
  std::span<float> sums_;
};

}  // namespace

StatusOr<std::unique_ptr<GradientExchange>> MakeShmExchange(const ExchangeOptions& options, const ShmExchangeOptions& shm,
                                                            const FlatLayout& layout, const FlatLayout& buffer_layout, Deadline deadline) {
  static_assert(sizeof(StepHeader) <= SegmentLayout::kHeaderFloats * sizeof(float));
  RETURN_IF_ERROR(CheckExchangeOptions(options));
  ASSIGN_OR_RETURN(auto shares, ShareLeaves(options.leaves, shm.size, options.reproducible));
  const bool caller_applies = options.apply == ApplyBy::kCaller;
  ASSIGN_OR_RETURN(std::shared_ptr<const Optimizer> optimizer, MakeOptimizer(caller_applies ? OptimizerOptions{} : options.optimizer));
  ASSIGN_OR_RETURN(auto buckets, PlanBuckets(layout, options.buckets));
  const bool needs_norm = options.clip_norm > 0 || options.nan_policy != NanPolicy::kStop;
  const auto slot_count = static_cast<int64_t>(optimizer->slot_names().size());
  const auto slices = SliceByBlocks(layout, shm.size);
  const ElementRange kept = options.place == GradientPlace::kInPlace ? slices[shm.rank] : ElementRange{};
  const int64_t kept_at_least = std::ranges::min_element(slices, {}, &ElementRange::size)->size();
  const SegmentLayout where{.elements = layout.elements,
                            .gradient_elements = layout.elements - (options.place == GradientPlace::kInPlace ? kept_at_least : 0),
                            .buffer_elements = buffer_layout.elements,
                            .slots = slot_count,
                            .blocks = static_cast<int64_t>(layout.blocks.size()),
                            .entries = static_cast<int64_t>(layout.entries.size()),
                            .sums_needed = caller_applies || needs_norm,
                            .parameters_shared = !caller_applies,
                            .own_slice_kept = options.place == GradientPlace::kInPlace};
  ASSIGN_OR_RETURN(auto communicator,
                   ShmCommunicator::Open(shm.segment_fd,
                                         {.rank = shm.rank,
                                          .size = shm.size,
                                          .rank_region_bytes = where.rank_floats() * static_cast<int64_t>(sizeof(float)),
                                          .shared_region_bytes = where.shared_floats() * static_cast<int64_t>(sizeof(float)),
                                          .health = shm.health},
                                         deadline));
  const int64_t private_elements = caller_applies ? layout.elements : 0;
  ASSIGN_OR_RETURN(auto memory, FlatMemory::Make({buffer_layout.elements, private_elements}));
  const auto mine = communicator->rank_region(shm.rank), shared = communicator->shared_region();
  FlatBuffers flat{.layout = layout,
                   .parameters = caller_applies ? memory.part(1) : Floats(shared, where.parameters(), layout.elements),
                   .gradients = Floats(mine, where.gradients(), layout.elements - kept.size()),
                   .kept = kept,
                   .buffer_layout = buffer_layout,
                   .buffers = memory.part(0),
                   .buffer_sums = Floats(mine, where.buffer_sums(), buffer_layout.elements)};
  std::vector<std::span<float>> slots;
  for (int64_t slot = 0; slot < slot_count; ++slot) slots.push_back(Floats(shared, where.slot(slot), layout.elements));
  ParameterStore store(std::move(flat), std::move(slots), std::move(optimizer), options.groups);
  return std::make_unique<ShmExchange>(options, std::move(communicator), where, std::move(store), std::move(buckets), std::move(shares),
                                       std::move(memory));
}

}  // namespace dtrain
