// Goal: every exchange keeps one contract: same parameters as a serial reference, bit for bit whatever the number of ranks
// in reproducible mode; misuse is refused; a step that is not finite is never applied; a state survives Snapshot and Load.
// Method: ranks are threads of this process over one memfd, or with links of real TCP; the gradients of a leaf are made up from (step,
// leaf, element).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include "allreduce/link_communicator.h"
#include "allreduce/shm_communicator.h"
#include "base/rng.h"
#include "cluster/tcp_transport.h"
#include "tests/allreduce/link_ranks.h"
#include "trainer/leaf_accumulator.h"
#include "trainer/local_exchange.h"
#include "trainer/ring_exchange.h"
#include "trainer/shm_exchange.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kLeaves = 8;

Deadline Soon() { return Deadline::In(std::chrono::seconds(30)); }

FlatLayout Layout() {
  const std::vector<TensorInfo> tensors = {{"b", DType::kF32, {10}}, {"w", DType::kF32, {123, 100}}, {"v", DType::kF32, {7}}};
  return MakeFlatLayout(tensors);
}
FlatLayout BufferLayout() {
  const std::vector<TensorInfo> tensors = {{"running_mean", DType::kF32, {33}}};
  return MakeFlatLayout(tensors);
}

float GradientOf(Step step, int64_t leaf, int64_t element) {
  Rng rng(17, RngPurpose::kSynthetic, static_cast<uint64_t>(step * kLeaves + leaf), static_cast<uint64_t>(element));
  return rng.Uniform() - 0.5f;
}

ExchangeState Initial() {
  ExchangeState state;
  for (const FlatLayout& layout : {Layout(), BufferLayout()}) {
    for (const FlatEntry& entry : layout.entries) {
      HostTensor tensor{entry.info, std::vector<std::byte>(entry.info.bytes())};
      auto* values = reinterpret_cast<float*>(tensor.bytes.data());
      for (int64_t i = 0; i < entry.info.elements(); ++i) values[i] = GradientOf(1000, 0, entry.offset + i);
      state.model.push_back(std::move(tensor));
    }
  }
  return state;
}

ExchangeOptions Options() {
  ExchangeOptions options;
  options.leaves = kLeaves;
  options.buckets = {.bucket_bytes_max = 20'000, .first_bucket_bytes_max = 1'000};  // several
  options.reproducible = true;
  options.optimizer = {.type = OptimizerType::kAdamW};
  options.groups = {GroupOptions{.weight_decay = 0.01}};
  options.learning_rate = [](Step step, double factor) { return 0.01 * factor / (1.0 + static_cast<double>(step)); };
  return options;
}

// Computes the leaves of `assignment` into the rank's buffers.
StepInput ComputeLeaves(const FlatBuffers& flat, Step step, LeafRange leaves) {
  LeafAccumulator gradients(flat.gradients), buffers(flat.buffer_sums);
  LeafScalarSum loss, weight;
  gradients.Start(leaves.count, LeafOrder::kTree);
  buffers.Start(leaves.count, LeafOrder::kTree);
  loss.Start();
  weight.Start();
  for (int64_t leaf = leaves.first; leaf < leaves.end(); ++leaf) {
    gradients.StartLeaf();
    buffers.StartLeaf();
    for (const FlatEntry& entry : flat.layout.entries) {
      std::vector<float> values;
      for (int64_t i = entry.range().begin; i < entry.range().end; ++i) values.push_back(GradientOf(step, leaf, i));
      gradients.Add(entry.range(), values);
    }
    std::vector<float> values;
    for (size_t i = 0; i < flat.buffer_sums.size(); ++i) {
      values.push_back(0.9f * flat.buffers[i] + 0.1f * GradientOf(step, leaf, static_cast<int64_t>(5000 + i)));
    }
    buffers.Add({0, static_cast<int64_t>(values.size())}, values);
    loss.Add(GradientOf(step, leaf, 99999));
    weight.Add(3 + static_cast<double>(leaf % 2));
  }
  return {.weight = weight.total(), .loss_sum = loss.total()};
}

// A ParallelFor of real threads.
void InThreads(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  std::vector<std::thread> threads;
  for (int64_t begin = 0; begin < count; begin += grain) threads.emplace_back(body, begin, std::min(count, begin + grain));
  for (std::thread& thread : threads) thread.join();
}

// Every other step the last bucket first.
void OfferAll(GradientExchange& exchange, Step step) {
  const auto count = static_cast<BucketId>(exchange.buckets().size());
  ASSERT_GT(count, 1);
  for (BucketId i = 0; i < count; ++i) ASSERT_TRUE(exchange.Offer(step, step % 2 == 0 ? i : count - 1 - i).ok());
}

using RankBody = std::function<void(GradientExchange&, int rank)>;

// How ranks reach each other.
enum class By { kNothing, kSharedMemory, kRing, kRingInSharedMemory };

struct Setting {
  By by = By::kNothing;
  int ranks = 1;

  Setting(int count) : by(count == 1 ? By::kNothing : By::kSharedMemory), ranks(count) {}
  Setting(By way, int count) : by(way), ranks(count) {}
  friend void PrintTo(const Setting& setting, std::ostream* out) {
    *out << setting.ranks << (setting.by == By::kRing ? " by links" : setting.by == By::kRingInSharedMemory ? " by a communicator" : "");
  }
};

StatusOr<std::unique_ptr<GradientExchange>> MakeExchange(const ExchangeOptions& options, const Setting& setting, int rank, int segment_fd,
                                                         std::vector<std::unique_ptr<Link>> links) {
  const ShmOptions shm{.rank = rank, .size = setting.ranks};
  switch (setting.by) {
    case By::kNothing:
      return MakeLocalExchange(options, Layout(), BufferLayout());
    case By::kSharedMemory:
      return MakeShmExchange(options, {.segment_fd = segment_fd, .rank = rank, .size = setting.ranks}, Layout(), BufferLayout(), Soon());
    case By::kRingInSharedMemory: {
      ASSIGN_OR_RETURN(auto communicator, ShmCommunicator::Open(segment_fd, shm, Soon()));
      return MakeRingExchange(options, std::move(communicator), Layout(), BufferLayout());
    }
    case By::kRing: {
      LinkOptions group;
      group.group.rank = rank;
      group.group.size = setting.ranks;
      ASSIGN_OR_RETURN(auto communicator, LinkCommunicator::Open(std::move(links), group));
      return MakeRingExchange(options, std::move(communicator), Layout(), BufferLayout());
    }
  }
  return Internal("no such way");
}

// Runs `body` on every rank of `setting`, each a thread with an exchange of its own; one rank is the local exchange.
void WithRanks(const ExchangeOptions& options, const Setting& setting, const RankBody& body) {
  const int ranks = setting.ranks;
  if (ranks == 1) {
    auto exchange = MakeLocalExchange(options, Layout(), BufferLayout());
    ASSERT_TRUE(exchange.ok()) << exchange.status();
    body(**exchange, 0);
    return;
  }
  const auto segment = ShmCommunicator::MakeSegment();
  ASSERT_TRUE(segment.ok()) << segment.status();
  TcpTransport transport;
  LinkMesh mesh = setting.by == By::kRing ? MakeMesh(transport, ranks) : LinkMesh(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      auto exchange = MakeExchange(options, setting, rank, *segment, std::move(mesh[rank]));
      ASSERT_TRUE(exchange.ok()) << exchange.status();
      body(**exchange, rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
  close(*segment);
}

std::vector<std::byte> BytesOf(const ExchangeState& state) {
  std::vector<std::byte> bytes;
  for (const auto* part : {&state.model, &state.optimizer}) {
    for (const HostTensor& tensor : *part) bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
  }
  return bytes;
}

// Trains `steps` steps on `ranks` ranks and returns what rank 0 has then.
ExchangeState Train(const ExchangeOptions& options, const Setting& ranks, Step steps, const ExchangeState& start,
                    std::vector<StepReport>* reports = nullptr) {
  ExchangeState result;
  WithRanks(options, ranks, [&](GradientExchange& exchange, int rank) {
    ASSERT_TRUE(exchange.Load(start).ok());
    for (Step step = start.step; step < start.step + steps; ++step) {
      const auto assignment = exchange.Begin(step, Soon());
      ASSERT_TRUE(assignment.ok()) << assignment.status();
      const StepInput input = ComputeLeaves(exchange.flat(), step, assignment->leaves);
      OfferAll(exchange, step);
      const auto report = exchange.Finish(step, input, Soon());
      ASSERT_TRUE(report.ok()) << report.status();
      if (rank == 0 && reports != nullptr) reports->push_back(*report);
    }
    auto state = exchange.Snapshot();
    ASSERT_TRUE(state.ok()) << state.status();
    if (rank == 0) result = *std::move(state);
  });
  return result;
}

class ExchangeContract : public ::testing::TestWithParam<Setting> {};

// The serial reference is written out here: tree sum over leaves, mean, clip, AdamW, all in the promised order.
TEST_P(ExchangeContract, SameBitsAsOneProcessForEveryNumberOfRanks) {
  for (const double clip : {0.0, 0.05}) {
    ExchangeOptions options = Options();
    options.clip_norm = clip;
    std::vector<StepReport> expected_reports, reports;
    const auto expected = Train(options, 1, 5, Initial(), &expected_reports);
    const auto found = Train(options, GetParam(), 5, Initial(), &reports);
    EXPECT_EQ(BytesOf(found), BytesOf(expected));
    ASSERT_EQ(reports.size(), 5u);
    for (size_t i = 0; i < reports.size(); ++i) {
      EXPECT_EQ(reports[i].loss_sum, expected_reports[i].loss_sum);
      EXPECT_EQ(reports[i].weight, expected_reports[i].weight);
      EXPECT_EQ(reports[i].gradient_norm, expected_reports[i].gradient_norm);
      EXPECT_EQ(reports[i].ranks, GetParam().ranks);
    }
  }
}

TEST_P(ExchangeContract, AppliesTheMeanOfTheLeavesAsSgdInDoubleDoes) {
  ExchangeOptions options = Options();
  options.optimizer = {.type = OptimizerType::kSgd};
  options.groups = {GroupOptions{}};
  const auto start = Initial();
  const auto found = Train(options, GetParam(), 1, start);
  const FlatLayout layout = Layout();
  const double weight = 4 * 3 + 4 * 4;
  for (size_t t = 0; t < layout.entries.size(); ++t) {
    const auto* before = reinterpret_cast<const float*>(start.model[t].bytes.data());
    const auto* after = reinterpret_cast<const float*>(found.model[t].bytes.data());
    ASSERT_EQ(found.model[t].info.name, layout.entries[t].info.name);
    for (int64_t i = 0; i < layout.entries[t].info.elements(); ++i) {
      double sum = 0;
      for (int64_t leaf = 0; leaf < kLeaves; ++leaf) sum += GradientOf(0, leaf, layout.entries[t].offset + i);
      ASSERT_NEAR(after[i], before[i] - 0.01 * sum / weight, 1e-6) << layout.entries[t].info.name << " " << i;
    }
  }
  // Buffers: the mean over leaves.
  const auto* before = reinterpret_cast<const float*>(start.model[3].bytes.data());
  const auto* after = reinterpret_cast<const float*>(found.model[3].bytes.data());
  for (int64_t i = 0; i < 33; ++i) {
    double sum = 0;
    for (int64_t leaf = 0; leaf < kLeaves; ++leaf) sum += 0.9 * before[i] + 0.1 * GradientOf(0, leaf, 5000 + i);
    ASSERT_NEAR(after[i], sum / kLeaves, 1e-6);
  }
}

// The values of tensor `name` of a state.
std::vector<float> Values(const std::vector<HostTensor>& tensors, const std::string& name) {
  for (const HostTensor& tensor : tensors) {
    if (tensor.info.name != name) continue;
    const auto* values = reinterpret_cast<const float*>(tensor.bytes.data());
    return {values, values + tensor.info.elements()};
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

TEST_P(ExchangeContract, ATensorThatNoRankTouchedIsLeftAlone) {
  ExchangeOptions options = Options();
  options.skip_untouched = true;
  EXPECT_FALSE(MakeLocalExchange(options, Layout(), BufferLayout()).ok());  // AdamW
  options.optimizer = {.type = OptimizerType::kSgd, .momentum = 0.9};
  WithRanks(options, GetParam(), [&](GradientExchange& exchange, int rank) {
    ASSERT_TRUE(exchange.Load(Initial()).ok());
    const auto before = *exchange.Snapshot();
    // "b" gets a gradient on the last rank alone, "v" nowhere.
    const std::vector<uint8_t> touched = {static_cast<uint8_t>(rank == GetParam().ranks - 1 ? 1 : 0), 1, 0};
    for (Step step = 0; step < 2; ++step) {
      const auto assignment = exchange.Begin(step, Soon());
      ASSERT_TRUE(assignment.ok());
      StepInput input = ComputeLeaves(exchange.flat(), step, assignment->leaves);
      OfferAll(exchange, step);
      input.touched = touched;
      const auto report = exchange.Finish(step, input, Soon());
      ASSERT_TRUE(report.ok());
      EXPECT_EQ(report->untouched, std::vector<int32_t>{2});
    }
    const auto after = *exchange.Snapshot();
    EXPECT_NE(Values(after.model, "b"), Values(before.model, "b"));
    EXPECT_NE(Values(after.model, "w"), Values(before.model, "w"));
    EXPECT_EQ(Values(after.model, "v"), Values(before.model, "v"));
    EXPECT_EQ(Values(after.optimizer, "momentum_buffer/v"), std::vector<float>(7, 0.0f));
    EXPECT_NE(Values(after.optimizer, "momentum_buffer/b"), std::vector<float>(10, 0.0f));
  });
}

TEST_P(ExchangeContract, BuffersFollowTheirRule) {
  for (const BufferRule rule : {BufferRule::kFirst, BufferRule::kLocal}) {
    ExchangeOptions options = Options();
    options.reproducible = false;
    options.leaves = GetParam().ranks;
    options.buffer_rule = rule;
    WithRanks(options, GetParam(), [&](GradientExchange& exchange, int rank) {
      ASSERT_TRUE(exchange.Load(Initial()).ok());
      const std::vector<float> before(exchange.flat().buffers.begin(), exchange.flat().buffers.end());
      const auto assignment = exchange.Begin(0, Soon());
      ASSERT_TRUE(assignment.ok());
      ASSERT_EQ(assignment->leaves.count, 1);
      const StepInput input = ComputeLeaves(exchange.flat(), 0, assignment->leaves);
      OfferAll(exchange, 0);
      ASSERT_TRUE(exchange.Finish(0, input, Soon()).ok());
      const int64_t leaf = rule == BufferRule::kFirst ? 0 : rank;
      for (size_t i = 0; i < before.size(); ++i) {
        ASSERT_EQ(exchange.flat().buffers[i], 0.9f * before[i] + 0.1f * GradientOf(0, leaf, static_cast<int64_t>(5000 + i)));
      }
    });
    options.reproducible = true;
    options.leaves = kLeaves;
    EXPECT_FALSE(MakeLocalExchange(options, Layout(), BufferLayout()).ok());
  }
}

TEST_P(ExchangeContract, TheSizeOfBucketsDoesNotMatter) {
  ExchangeOptions options = Options();
  const auto expected = Train(options, GetParam(), 3, Initial());
  options.buckets = {.bucket_bytes_max = 34'000, .first_bucket_bytes_max = 17'000};
  EXPECT_EQ(BytesOf(Train(options, GetParam(), 3, Initial())), BytesOf(expected));
}

TEST_P(ExchangeContract, GoesOnFromASnapshotWithTheSameBits) {
  const auto whole = Train(Options(), GetParam(), 6, Initial());
  const auto half = Train(Options(), GetParam(), 3, Initial());
  EXPECT_EQ(half.step, 3);
  EXPECT_EQ(half.updates, 3);
  const int other_ranks = GetParam().ranks == 1 ? 2 : 1;
  EXPECT_EQ(BytesOf(Train(Options(), GetParam(), 3, half)), BytesOf(whole));
  EXPECT_EQ(BytesOf(Train(Options(), other_ranks, 3, half)), BytesOf(whole));
}

TEST_P(ExchangeContract, TheFactorOfALoadedStateHoldsFromItsFirstStep) {
  WithRanks(Options(), GetParam(), [&](GradientExchange& exchange, int) {
    ExchangeState state = Initial();
    state.factor = 0.25;
    ASSERT_TRUE(exchange.Load(state).ok());
    const auto snapshot = exchange.Snapshot();
    ASSERT_TRUE(snapshot.ok());
    EXPECT_EQ(snapshot->factor, 0.25);
    const auto assignment = exchange.Begin(0, Soon());
    ASSERT_TRUE(assignment.ok());
    EXPECT_DOUBLE_EQ(assignment->learning_rate, 0.01 * 0.25);
  });
}

TEST_P(ExchangeContract, CallerAppliesAndFindsTheMeanGradient) {
  ExchangeOptions options = Options();
  options.apply = ApplyBy::kCaller;
  const auto start = Initial();
  WithRanks(options, GetParam(), [&](GradientExchange& exchange, int) {
    ASSERT_TRUE(exchange.Load(start).ok());
    const std::vector<float> before(exchange.flat().parameters.begin(), exchange.flat().parameters.end());
    const auto assignment = exchange.Begin(0, Soon());
    ASSERT_TRUE(assignment.ok());
    const StepInput input = ComputeLeaves(exchange.flat(), 0, assignment->leaves);
    OfferAll(exchange, 0);
    ASSERT_TRUE(exchange.Finish(0, input, Soon()).ok());
    EXPECT_TRUE(std::equal(before.begin(), before.end(), exchange.flat().parameters.begin()));
    for (const FlatEntry& entry : exchange.flat().layout.entries) {
      for (int64_t i = entry.range().begin; i < entry.range().end; i += 97) {
        double sum = 0;
        for (int64_t leaf = 0; leaf < kLeaves; ++leaf) sum += GradientOf(0, leaf, i);
        ASSERT_NEAR(exchange.flat().gradients[i], sum / 28, 1e-6);
      }
    }
  });
}

TEST_P(ExchangeContract, AStepThatIsNotFiniteIsNeverApplied) {
  for (const bool in_gradient : {false, true}) {
    ExchangeOptions options = Options();
    options.nan_policy = NanPolicy::kSkip;
    const auto start = Initial();
    ExchangeState after;
    WithRanks(options, GetParam(), [&](GradientExchange& exchange, int rank) {
      ASSERT_TRUE(exchange.Load(start).ok());
      const auto assignment = exchange.Begin(0, Soon());
      ASSERT_TRUE(assignment.ok());
      StepInput input = ComputeLeaves(exchange.flat(), 0, assignment->leaves);
      const bool culprit = rank == GetParam().ranks - 1;
      if (culprit && in_gradient) exchange.flat().gradients[77] = std::numeric_limits<float>::infinity();
      if (culprit && !in_gradient) input.finite = false;
      OfferAll(exchange, 0);
      const auto report = exchange.Finish(0, input, Soon());
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_FALSE(report->finite);
      EXPECT_FALSE(report->applied);
      auto state = exchange.Snapshot();
      ASSERT_TRUE(state.ok());
      EXPECT_EQ(state->step, 1);
      EXPECT_EQ(state->updates, 0);
      if (rank == 0) after = *std::move(state);
    });
    for (size_t i = 0; i < start.model.size(); ++i) EXPECT_EQ(after.model[i].bytes, start.model[i].bytes);
  }
}

TEST_P(ExchangeContract, DecisionsOfRankZeroReachEveryRankInTheNextStep) {
  ExchangeOptions options = Options();
  int asked = 0;  // on rank 0 only
  options.decide = [&] {
    ++asked;
    return Decisions{.save = asked == 1, .stop = asked == 2, .factor = asked == 1 ? 0.5 : 1.0};
  };
  WithRanks(options, GetParam(), [&](GradientExchange& exchange, int) {
    ASSERT_TRUE(exchange.Load(Initial()).ok());
    for (Step step = 0; step < 3; ++step) {
      const auto assignment = exchange.Begin(step, Soon());
      ASSERT_TRUE(assignment.ok());
      EXPECT_EQ(assignment->decisions.save, step == 1);
      EXPECT_EQ(assignment->decisions.stop, step == 2);
      EXPECT_DOUBLE_EQ(assignment->learning_rate, 0.01 * (step == 1 ? 0.5 : 1) / (1 + static_cast<double>(step)));
      const StepInput input = ComputeLeaves(exchange.flat(), step, assignment->leaves);
      OfferAll(exchange, step);
      ASSERT_TRUE(exchange.Finish(step, input, Soon()).ok());
    }
  });
}

TEST_P(ExchangeContract, MisuseIsRefusedAndSaysWhatWasExpected) {
  WithRanks(Options(), GetParam(), [&](GradientExchange& exchange, int) {
    ASSERT_TRUE(exchange.Load(Initial()).ok());
    EXPECT_THAT(std::string(exchange.Begin(4, Soon()).status().message()), HasSubstr("expected step 0"));
    EXPECT_THAT(std::string(exchange.Offer(0, 0).message()), HasSubstr("has not begun"));
    ASSERT_TRUE(exchange.Begin(0, Soon()).ok());
    EXPECT_FALSE(exchange.Begin(0, Soon()).ok());
    EXPECT_FALSE(exchange.Offer(0, 99).ok());
    ASSERT_TRUE(exchange.Offer(0, 0).ok());
    EXPECT_THAT(std::string(exchange.Offer(0, 0).message()), HasSubstr("offered before"));
    EXPECT_FALSE(exchange.Finish(1, {}, Soon()).ok());
    ExchangeState state = Initial();
    state.model[1].info.name = "x";
    const Status status = exchange.Load(state);
    EXPECT_THAT(std::string(status.message()), HasSubstr("w: missing"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("x: unknown"));
  });
}

// The flat gradient of `layout` as backward leaves it under GradientPlace::kInPlace: an array an entry, and what is not kept in
// flat.gradients.
struct Scattered {
  Scattered(const FlatBuffers& flat, std::span<const float> gradients) {
    for (const FlatEntry& entry : flat.layout.entries) {
      const auto part = gradients.subspan(entry.offset, entry.info.elements());
      pointers.push_back(arrays.emplace_back(part.begin(), part.end()).data());
      for (int64_t i = entry.range().begin; i < entry.range().end; ++i) {
        if (i < flat.kept.begin || i >= flat.kept.end) *flat.gradient(i) = gradients[i];
      }
    }
  }
  std::vector<std::vector<float>> arrays;
  std::vector<const float*> pointers;
};

TEST_P(ExchangeContract, GradientsReadInPlaceAndThreadsGiveTheSameBits) {
  for (const double clip : {0.0, 0.05}) {
    ExchangeOptions options = Options();
    options.clip_norm = clip;
    const auto expected = Train(options, 1, 4, Initial());
    options.threads = 3;
    options.parallel_for = InThreads;
    EXPECT_EQ(BytesOf(Train(options, GetParam(), 4, Initial())), BytesOf(expected));
    options.place = GradientPlace::kInPlace;
    WithRanks(options, GetParam(), [&](GradientExchange& exchange, int) {
      const FlatBuffers& flat = exchange.flat();
      EXPECT_EQ(static_cast<int64_t>(flat.gradients.size()), flat.layout.elements - flat.kept.size());
      EXPECT_TRUE(GetParam().ranks > 1 || flat.gradients.empty());
      std::vector<float> whole(flat.layout.elements);
      FlatBuffers as_flat = flat;
      as_flat.gradients = whole;
      ASSERT_TRUE(exchange.Load(Initial()).ok());
      for (Step step = 0; step < 4; ++step) {
        const auto assignment = exchange.Begin(step, Soon());
        ASSERT_TRUE(assignment.ok());
        StepInput input = ComputeLeaves(as_flat, step, assignment->leaves);
        const Scattered scattered(flat, whole);
        OfferAll(exchange, step);
        EXPECT_TRUE(flat.kept.size() == 0 || !exchange.Finish(step, input, Soon()).ok());  // where are they?
        input.gradients_of = flat.kept.size() > 0 ? std::span<const float* const>(scattered.pointers) : std::span<const float* const>();
        ASSERT_TRUE(exchange.Finish(step, input, Soon()).ok());
      }
      EXPECT_EQ(BytesOf(*exchange.Snapshot()), BytesOf(expected));
    });
    options.apply = ApplyBy::kCaller;
    EXPECT_FALSE(MakeLocalExchange(options, Layout(), BufferLayout()).ok());
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ExchangeContract,
                         ::testing::Values(1, 2, 3, 4, 8, Setting(By::kRing, 2), Setting(By::kRing, 3), Setting(By::kRing, 4),
                                           Setting(By::kRingInSharedMemory, 2), Setting(By::kRingInSharedMemory, 5)));

TEST(ShmExchange, MoreRanksThanLeavesAreRefused) {
  ExchangeOptions options = Options();
  options.leaves = 2;
  const auto exchange = MakeShmExchange(options, {.segment_fd = -1, .rank = 0, .size = 3}, Layout(), BufferLayout(), Soon());
  EXPECT_EQ(exchange.status().code(), StatusCode::kInvalidArgument);
}

TEST(ShmExchange, ARankThatDoesNotComeEndsTheWaitOfTheOthersAtTheirDeadline) {
  WithRanks(Options(), 2, [&](GradientExchange& exchange, int rank) {
    ASSERT_TRUE(exchange.Load(Initial()).ok());
    if (rank == 1) return;
    const auto assignment = exchange.Begin(0, Soon());
    ASSERT_TRUE(assignment.ok());
    const StepInput input = ComputeLeaves(exchange.flat(), 0, assignment->leaves);
    OfferAll(exchange, 0);
    const auto report = exchange.Finish(0, input, Deadline::In(std::chrono::milliseconds(200)));
    EXPECT_EQ(report.status().code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(report.status().message()), HasSubstr("rank 1"));
  });
}

}  // namespace
}  // namespace dtrain
