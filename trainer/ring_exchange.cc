#include "trainer/ring_exchange.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/check.h"
#include "optim/accumulate.h"
#include "optim/block_sums.h"
#include "trainer/exchange_core.h"
#include "trainer/flat_memory.h"

namespace dtrain {
namespace {

constexpr int kRanksMax = 1024;

// What a rank tells the others about its part of a step. All ranks run the same build (preflight compares it).
struct StepHeader {
  Step step;
  double weight, loss_sum;
  double factor;  // decisions of rank 0
  uint8_t save, stop, finish;
  uint8_t finite;
  uint8_t zero[4];
};
static_assert(sizeof(StepHeader) == 40);

// A bucket cut at blocks for the ranks: rank j owns blocks [first[j], first[j + 1]) of the layout.
struct BucketShares {
  std::vector<size_t> first;
};

// Offers to a thread that works them off in order of buckets.
class BucketQueue {
 public:
  explicit BucketQueue(std::function<Status(BucketId, Deadline)> work) : work_(std::move(work)), thread_([this] { Loop(); }) {}
  ~BucketQueue() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void Start(size_t buckets, Deadline deadline) {
    const std::lock_guard lock(mutex_);
    DTRAIN_CHECK(next_ == offered_.size() || !status_.ok());
    offered_.assign(buckets, false);
    next_ = 0;
    deadline_ = deadline;
  }
  Status Offer(BucketId bucket) {
    {
      const std::lock_guard lock(mutex_);
      RETURN_IF_ERROR(status_);
      offered_[bucket] = true;
    }
    changed_.notify_all();
    return OkStatus();
  }
  bool idle() {
    const std::lock_guard lock(mutex_);
    return status_.ok() && (next_ == offered_.size() || !offered_[next_]);
  }
  // All were offered; returns when all are done. The communicator is the caller's until the next Start.
  Status Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !status_.ok() || next_ == offered_.size(); });  // the work has the deadline
    return status_;
  }

 private:
  void Loop() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return closing_ || (status_.ok() && next_ < offered_.size() && offered_[next_]); });
      if (closing_) return;
      const auto bucket = static_cast<BucketId>(next_);
      const Deadline deadline = deadline_;
      lock.unlock();
      const Status status = work_(bucket, deadline);
      lock.lock();
      if (status_.ok()) status_ = status;
      ++next_;
      changed_.notify_all();
    }
  }

  const std::function<Status(BucketId, Deadline)> work_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<bool> offered_;
  size_t next_ = 0;
  Deadline deadline_ = Deadline::In(Duration::zero());
  Status status_;
  bool closing_ = false;
  std::thread thread_;  // last: it uses all the others
};

class RingExchange final : public GradientExchange {
 public:
  RingExchange(const ExchangeOptions& options, std::unique_ptr<Communicator> communicator, ParameterStore store,
               std::vector<Bucket> buckets, LeafShares shares, FlatMemory memory, std::span<float> sums)
      : communicator_(std::move(communicator)),
        memory_(std::move(memory)),
        core_(options, std::move(store), std::move(buckets)),
        shares_(std::move(shares)),
        sums_(sums),
        block_sums_(core_.layout().blocks.size()),
        queue_([this](BucketId bucket, Deadline deadline) { return Reduce(bucket, deadline); }) {
    for (int rank = 0; rank < communicator_->size(); ++rank) view_.ranks.push_back(rank);
    for (const Bucket& bucket : core_.buckets()) bucket_shares_.push_back(Share(bucket));
  }
  // A thread that is still in a collective must come back. Not otherwise: others may be about to finish theirs.
  ~RingExchange() override {
    if (!queue_.idle()) communicator_->Abort();
  }

  const FlatBuffers& flat() const override { return core_.store().flat(); }
  const std::vector<Bucket>& buckets() const override { return core_.buckets(); }

  StatusOr<Assignment> Begin(Step step, Deadline deadline) override {
    ASSIGN_OR_RETURN(Assignment assignment, core_.Begin(step, view_, shares_.of_rank[communicator_->rank()]));
    queue_.Start(core_.buckets().size(), deadline);
    return assignment;
  }

  Status Offer(Step step, BucketId bucket) override {
    RETURN_IF_ERROR(core_.Offer(step, bucket));
    return queue_.Offer(bucket);
  }

  StatusOr<StepReport> Finish(Step step, const StepInput& input, Deadline deadline) override {
    RETURN_IF_ERROR(core_.CheckFinish(step, input));
    PhaseTimer timer;
    {
      const TraceScope scope(core_.options().trace, "wait_for_sums", TraceThread::kCompute, step);
      RETURN_IF_ERROR(queue_.Wait());  // phase 1: all sums are complete here
    }
    const int64_t moved = core_.layout().bytes() * 2 * (communicator_->size() - 1) / communicator_->size();
    StepReport report{.ranks = communicator_->size(), .bytes = moved};
    RETURN_IF_ERROR(ExchangeHeaders(step, input, deadline, &report));  // phase 2: and everywhere
    RETURN_IF_ERROR(SumBuffers(deadline));
    report.wait_s = timer.Lap();
    if (report.finite && core_.needs_norm()) {
      core_.ForBlocks(core_.whole(), [this](size_t index, ElementRange block) { block_sums_[index] = BlockSquareSum(Sums(block)); });
      core_.TakeNorm(block_sums_, &report);
    }
    report.reduce_s = timer.Lap();
    report.applied = report.finite && report.weight > 0;
    if (report.applied) {
      const TraceScope scope(core_.options().trace, "update", TraceThread::kCompute, step);
      Apply(core_.Scalars(report));  // phase 3
    }
    report.apply_s = timer.Lap();
    core_.Close(report);
    return report;
  }

  StatusOr<ExchangeState> Snapshot() override { return core_.Snapshot(); }

  Status Load(const ExchangeState& state) override { return core_.Load(state); }

 private:
  std::span<const float> Sums(ElementRange range) const { return std::span<const float>(sums_).subspan(range.begin, range.size()); }

  // Nearly equal shares by number of blocks, in order of ranks.
  BucketShares Share(const Bucket& bucket) const {
    const auto [first, last] = core_.BlocksIn(bucket);
    const size_t count = last - first, ranks = communicator_->size();
    BucketShares shares;
    for (size_t rank = 0; rank <= ranks; ++rank) shares.first.push_back(first + count * rank / ranks);
    return shares;
  }

  // Elements from the first block of a share to the end of its last, the padding between them included.
  ElementRange RangeOf(const BucketShares& shares, size_t rank) const {
    const auto& blocks = core_.layout().blocks;
    if (shares.first[rank] == shares.first[rank + 1]) return {};
    return {blocks[shares.first[rank]].begin, blocks[shares.first[rank + 1] - 1].end};
  }

  // In the queue's thread.
  Status Reduce(BucketId id, Deadline deadline) {
    const TraceScope scope(core_.options().trace, "bucket", TraceThread::kExchange, core_.step(), id);
    const Bucket& bucket = core_.buckets()[id];
    const auto gradients = std::span<const float>(flat().gradients).subspan(bucket.begin, bucket.size());
    if (core_.options().reproducible) return Annotate(ReduceInTree(id, deadline), Cat("reduce bucket ", id));
    const auto sums = sums_.subspan(bucket.begin, bucket.size());
    std::memcpy(sums.data(), gradients.data(), gradients.size_bytes());
    return Annotate(communicator_->AllReduce(sums, deadline), Cat("reduce bucket ", id));
  }

  Status ReduceInTree(BucketId id, Deadline deadline) {
    const BucketShares& shares = bucket_shares_[id];
    const size_t ranks = communicator_->size(), self = communicator_->rank();
    const ElementRange mine = RangeOf(shares, self);
    received_.resize(ranks * mine.size());
    std::vector<std::span<const std::byte>> to;
    std::vector<std::span<std::byte>> from, sums;
    for (size_t rank = 0; rank < ranks; ++rank) {
      const ElementRange range = RangeOf(shares, rank);
      to.push_back(std::as_bytes(std::span(flat().gradients).subspan(range.begin, range.size())));
      from.push_back(std::as_writable_bytes(std::span(received_).subspan(rank * mine.size(), mine.size())));
      sums.push_back(std::as_writable_bytes(sums_.subspan(range.begin, range.size())));
    }
    RETURN_IF_ERROR(communicator_->AllToAll(to, from, deadline));
    std::vector<const float*> operands(ranks);
    for (size_t i = shares.first[self]; i < shares.first[self + 1]; ++i) {
      const ElementRange block = core_.layout().blocks[i];
      for (size_t rank = 0; rank < ranks; ++rank) operands[rank] = received_.data() + rank * mine.size() + (block.begin - mine.begin);
      TreeSumBlock(shares_.sum_over_ranks, operands, block.size(), sums_.data() + block.begin);
    }
    return communicator_->AllGatherParts(sums[self], sums, deadline);
  }

  Status ExchangeHeaders(Step step, const StepInput& input, Deadline deadline, StepReport* report) {
    const Decisions decisions = communicator_->rank() == 0 ? core_.options().decide() : Decisions{};
    const StepHeader mine{
        step, input.weight, input.loss_sum, decisions.factor, decisions.save, decisions.stop, decisions.finish, input.finite, {}};
    // The header and a byte an entry: whether it got a gradient here.
    const size_t ranks = communicator_->size(), part = sizeof(StepHeader) + core_.layout().entries.size();
    std::vector<std::byte> said(part), all(part * ranks);
    std::memcpy(said.data(), &mine, sizeof mine);
    core_.SayTouched(input, {reinterpret_cast<uint8_t*>(said.data() + sizeof mine), part - sizeof mine});
    RETURN_IF_ERROR(communicator_->AllGather(said, all, deadline));
    std::vector<StepHeader> headers(ranks);
    std::vector<std::span<const uint8_t>> touched;
    for (size_t rank = 0; rank < ranks; ++rank) {
      std::memcpy(&headers[rank], all.data() + rank * part, sizeof(StepHeader));
      touched.emplace_back(reinterpret_cast<const uint8_t*>(all.data() + rank * part + sizeof(StepHeader)), part - sizeof(StepHeader));
    }
    core_.TakeTouched(touched, report);
    std::vector<double> weights, losses;
    for (size_t rank = 0; rank < headers.size(); ++rank) {
      if (headers[rank].step != step) {
        return Internal("finish step ", step, ": rank ", rank, " is at step ", headers[rank].step, "; all ranks must be at the same step");
      }
      weights.push_back(headers[rank].weight);
      losses.push_back(headers[rank].loss_sum);
      report->finite = report->finite && headers[rank].finite == 1;
    }
    report->weight = TreeSum(shares_.sum_over_ranks, weights);
    report->loss_sum = TreeSum(shares_.sum_over_ranks, losses);
    const StepHeader& first = headers[0];
    core_.Take({.save = first.save != 0, .stop = first.stop != 0, .finish = first.finish != 0, .factor = first.factor});
    return OkStatus();
  }

  // Buffers are few: every rank gets all of them and adds for itself.
  Status SumBuffers(Deadline deadline) {
    const auto mine = flat().buffer_sums;
    if (mine.empty()) return OkStatus();
    received_.resize(mine.size() * communicator_->size());
    return communicator_->AllGather(std::as_bytes(mine), std::as_writable_bytes(std::span(received_)), deadline);
  }

  void Apply(const UpdateScalars& scalars) {
    if (core_.options().apply == ApplyBy::kCaller) {
      std::memcpy(flat().gradients.data(), sums_.data(), sums_.size_bytes());
      Scale(flat().gradients, scalars.gradient_scale);
    } else {
      core_.ForBlocks(core_.whole(), [&](size_t index, ElementRange block) {
        if (core_.touched(index)) core_.store().Apply(scalars, block, Sums(block));
      });
    }
    const size_t count = flat().buffer_sums.size();
    std::vector<std::span<const float>> sums;
    for (int rank = 0; count > 0 && rank < communicator_->size(); ++rank)
      sums.push_back(std::span<const float>(received_).subspan(rank * count, count));
    if (count > 0) core_.CombineBuffers(sums, shares_, communicator_->rank());
  }

  std::unique_ptr<Communicator> communicator_;
  FlatMemory memory_;
  ExchangeCore core_;
  LeafShares shares_;
  View view_;
  std::span<float> sums_;
  std::vector<double> block_sums_;
  std::vector<BucketShares> bucket_shares_;
  std::vector<float> received_;  // from all ranks: this rank's share of a bucket, or the buffers
  BucketQueue queue_;            // last: its thread uses all the others
};

}  // namespace

StatusOr<std::unique_ptr<GradientExchange>> MakeRingExchange(const ExchangeOptions& given, std::unique_ptr<Communicator> communicator,
                                                             const FlatLayout& layout, const FlatLayout& buffer_layout) {
  RETURN_IF_ERROR(CheckExchangeOptions(given));
  ExchangeOptions options = given;
  options.place = GradientPlace::kFlat;
  if (communicator->size() > kRanksMax) {
    return InvalidArgument("make a ring exchange: ", communicator->size(), " ranks; expected at most ", kRanksMax);
  }
  ASSIGN_OR_RETURN(auto shares, ShareLeaves(options.leaves, communicator->size(), options.reproducible));
  ASSIGN_OR_RETURN(std::shared_ptr<const Optimizer> optimizer,
                   MakeOptimizer(options.apply == ApplyBy::kCaller ? OptimizerOptions{} : options.optimizer));
  ASSIGN_OR_RETURN(auto buckets, PlanBuckets(layout, options.buckets));
  const int64_t elements = layout.elements, buffer_elements = buffer_layout.elements;
  const auto slot_count = static_cast<int64_t>(optimizer->slot_names().size());
  ASSIGN_OR_RETURN(auto memory, FlatMemory::Make({elements, elements, elements, buffer_elements, buffer_elements, slot_count * elements}));
  FlatBuffers flat{.layout = layout,
                   .parameters = memory.part(0),
                   .gradients = memory.part(1),
                   .buffer_layout = buffer_layout,
                   .buffers = memory.part(3),
                   .buffer_sums = memory.part(4)};
  std::vector<std::span<float>> slots;
  for (int64_t slot = 0; slot < slot_count; ++slot) slots.push_back(memory.part(5).subspan(slot * elements, elements));
  const std::span<float> sums = memory.part(2);
  ParameterStore store(std::move(flat), std::move(slots), std::move(optimizer), options.groups);
  return std::make_unique<RingExchange>(options, std::move(communicator), std::move(store), std::move(buckets), std::move(shares),
                                        std::move(memory), sums);
}

}  // namespace dtrain
