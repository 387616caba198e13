#include "trainer/exchange_core.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "optim/accumulate.h"
#include "optim/clip.h"

namespace dtrain {
namespace {

constexpr size_t kBlocksAtLeast = 8;  // for a thread: below, starting it costs more than it gains

}  // namespace

Status CheckExchangeOptions(const ExchangeOptions& options) {
  if (!(options.clip_norm >= 0))
    return InvalidArgument("make a gradient exchange: clip_norm is ", options.clip_norm, "; expected 0 or more");
  if (options.reproducible && options.buffer_rule != BufferRule::kAverage) {
    return InvalidArgument("make a gradient exchange: buffers of one rank depend on the number of ranks; reproducible averages them");
  }
  if (options.skip_untouched && (options.optimizer.type == OptimizerType::kAdam || options.optimizer.type == OptimizerType::kAdamW)) {
    return InvalidArgument(
        "make a gradient exchange: untouched tensors cannot be skipped with Adam, whose bias correction counts the updates of "
        "all tensors together");
  }
  if (options.groups.empty()) return InvalidArgument("make a gradient exchange: no parameter group; expected at least one");
  if (options.place == GradientPlace::kInPlace && options.apply == ApplyBy::kCaller) {
    return InvalidArgument(
        "make a gradient exchange: a caller that applies finds the gradient in the flat buffer; expected "
        "GradientPlace::kFlat");
  }
  return OkStatus();
}

void Scale(std::span<float> values, double factor) {
  const auto scale = static_cast<float>(factor);
  for (float& value : values) value *= scale;
}

ExchangeCore::ExchangeCore(const ExchangeOptions& options, ParameterStore store, std::vector<Bucket> buckets)
    : options_(options), store_(std::move(store)), buckets_(std::move(buckets)), offered_(buckets_.size()) {
  if (!layout().blocks.empty()) block_plan_ = PlanTreeSum(static_cast<int64_t>(layout().blocks.size()));
  int32_t entry = 0;
  for (const ElementRange& block : layout().blocks) {
    while (block.begin >= layout().entries[entry].range().end) ++entry;
    entry_of_block_.push_back(entry);
  }
}

StatusOr<Assignment> ExchangeCore::Begin(Step step, View view, LeafRange leaves) {
  if (open_ || step != step_) {
    return InvalidArgument("begin step ", step, ": ", open_ ? "not finished yet is" : "expected", " step ", step_);
  }
  open_ = true;
  std::fill(offered_.begin(), offered_.end(), false);
  learning_rate_ = options_.learning_rate(step, decisions_.factor);
  return Assignment{std::move(view), leaves, options_.leaves, learning_rate_, decisions_};
}

Status ExchangeCore::Offer(Step step, BucketId bucket) {
  if (!open_ || step != step_)
    return InvalidArgument("offer bucket ", bucket, " of step ", step, ": expected step ", step_, open_ ? "" : ", which has not begun");
  if (bucket < 0 || bucket >= static_cast<BucketId>(buckets_.size())) {
    return InvalidArgument("offer bucket ", bucket, " of step ", step, ": expected 0 to ", buckets_.size() - 1);
  }
  if (offered_[bucket]) return InvalidArgument("offer bucket ", bucket, " of step ", step, ": it was offered before");
  offered_[bucket] = true;
  return OkStatus();
}

Status ExchangeCore::CheckFinish(Step step, const StepInput& input) const {
  if (!open_ || step != step_)
    return InvalidArgument("finish step ", step, ": expected step ", step_, open_ ? "" : ", which has not begun");
  const auto missing = std::find(offered_.begin(), offered_.end(), false);
  if (missing != offered_.end()) {
    return InvalidArgument("finish step ", step, ": bucket ", missing - offered_.begin(), " of ", offered_.size(), " was never offered");
  }
  const size_t in_place = store_.flat().kept.size() > 0 ? layout().entries.size() : 0;
  if (input.gradients_of.size() != in_place) {
    return InvalidArgument("finish step ", step, ": ", input.gradients_of.size(), " gradients are given in place; expected ", in_place);
  }
  if (!input.touched.empty() && input.touched.size() != layout().entries.size()) {
    return InvalidArgument("finish step ", step, ": it is said of ", input.touched.size(),
                           " tensors whether they got a gradient; expected ", layout().entries.size());
  }
  return OkStatus();
}

std::pair<size_t, size_t> ExchangeCore::BlocksIn(ElementRange range) const {
  const auto& blocks = layout().blocks;
  const auto index_of = [&](int64_t element) {
    return static_cast<size_t>(std::ranges::lower_bound(blocks, element, {}, &ElementRange::begin) - blocks.begin());
  };
  return {index_of(range.begin), index_of(range.end)};
}

void ExchangeCore::ForBlocks(ElementRange within, const std::function<void(size_t, ElementRange)>& visit) const {
  const auto& blocks = layout().blocks;
  const size_t first = BlocksIn(within).first, last = BlocksIn(within).second;
  const auto threads = static_cast<size_t>(last - first < 2 * kBlocksAtLeast ? 1 : options_.threads);
  options_.parallel_for(static_cast<int64_t>(threads), 1, [&](int64_t begin, int64_t end) {
    for (auto thread = static_cast<size_t>(begin); thread < static_cast<size_t>(end); ++thread) {
      // From the last tensor to the first: backward made the last one last, and it is still in the cache.
      for (size_t behind = last; behind > first;) {
        size_t begins = behind - 1;
        while (begins > first && entry_of_block_[begins - 1] == entry_of_block_[behind - 1]) --begins;
        const size_t count = behind - begins;
        const bool whole = count < kBlocksAtLeast;  // too small to share: the first thread's
        const size_t from = whole ? (thread == 0 ? 0 : count) : count * thread / threads;
        const size_t to = whole ? count : count * (thread + 1) / threads;
        for (size_t i = begins + from; i < begins + to; ++i) visit(i, blocks[i]);
        behind = begins;
      }
    }
  });
}

const float* ExchangeCore::gradient_of_block(size_t index, const StepInput& input) const {
  const FlatBuffers& flat = store_.flat();
  const int64_t begin = layout().blocks[index].begin;
  if (begin < flat.kept.begin || begin >= flat.kept.end) return flat.gradient(begin);
  const int32_t entry = entry_of_block_[index];
  return input.gradients_of[entry] + (begin - layout().entries[entry].offset);
}

void ExchangeCore::TakeNorm(const std::vector<double>& block_square_sums, StepReport* report) const {
  if (block_square_sums.empty()) return;
  const double square_sum = TreeSum(block_plan_, block_square_sums);
  if (!std::isfinite(square_sum)) {
    report->finite = false;
  } else if (report->weight > 0) {
    report->gradient_norm = std::sqrt(square_sum) / report->weight;
  }
}

UpdateScalars ExchangeCore::Scalars(const StepReport& report) const {
  DTRAIN_CHECK(report.weight > 0);
  const double clip = options_.clip_norm > 0 ? ClipCoefficient(report.gradient_norm, options_.clip_norm) : 1.0;
  return {.update = updates_ + 1, .learning_rate = learning_rate_, .gradient_scale = clip / report.weight};
}

void ExchangeCore::SayTouched(const StepInput& input, std::span<uint8_t> bytes) const {
  if (input.touched.empty()) {
    std::ranges::fill(bytes, 1);
  } else {
    std::ranges::copy(input.touched, bytes.begin());
  }
}

void ExchangeCore::TakeTouched(std::span<const std::span<const uint8_t>> of_ranks, StepReport* report) {
  touched_.assign(layout().entries.size(), 0);
  for (const auto& of_rank : of_ranks) {
    for (size_t i = 0; i < touched_.size(); ++i) touched_[i] |= of_rank[i];
  }
  for (size_t i = 0; i < touched_.size(); ++i) {
    if (touched_[i] == 0) report->untouched.push_back(static_cast<int32_t>(i));
  }
}

void ExchangeCore::CombineBuffers(std::span<const std::span<const float>> sums, const LeafShares& shares, int rank) const {
  const FlatBuffers& flat = store_.flat();
  if (options_.buffer_rule != BufferRule::kAverage) {
    const int of = options_.buffer_rule == BufferRule::kFirst ? 0 : rank;
    const double share = 1.0 / static_cast<double>(shares.of_rank[of].count);
    for (size_t i = 0; i < flat.buffers.size(); ++i) flat.buffers[i] = static_cast<float>(sums[of][i] * share);
    return;
  }
  const double share = 1.0 / static_cast<double>(options_.leaves);
  std::vector<const float*> operands(sums.size());
  alignas(64) std::array<float, kBlockElements> total;
  for (const ElementRange block : flat.buffer_layout.blocks) {
    for (size_t i = 0; i < operands.size(); ++i) operands[i] = sums[i].data() + block.begin;
    TreeSumBlock(shares.sum_over_ranks, operands, block.size(), total.data());
    for (int64_t i = 0; i < block.size(); ++i) flat.buffers[block.begin + i] = static_cast<float>(total[i] * share);
  }
}

void ExchangeCore::Close(const StepReport& report) {
  DTRAIN_CHECK(open_);
  open_ = false;
  ++step_;
  if (report.applied) ++updates_;
}

StatusOr<ExchangeState> ExchangeCore::Snapshot() const {
  ASSIGN_OR_RETURN(ExchangeState state, store_.Snapshot(step_, updates_));
  state.factor = decisions_.factor;
  return state;
}

Status ExchangeCore::Load(const ExchangeState& state) {
  RETURN_IF_ERROR(store_.Check(state));
  store_.Place(state, whole());
  store_.PlaceBuffers(state);
  Restart(state);
  return OkStatus();
}

void ExchangeCore::Restart(const ExchangeState& state) {
  open_ = false;
  step_ = state.step;
  updates_ = state.updates;
  decisions_ = {.factor = state.factor};
}

}  // namespace dtrain
