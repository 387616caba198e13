// Goal: whatever happens between the ranks, each either ends a collective with exactly the serial result or reports an error by
// its deadline; never a wrong number, never a hang. And each algorithm takes the steps and the bytes that its header states.
// Method: the state machines of all ranks in one thread on a virtual clock, by seed. DTRAIN_SIM_SEEDS is how many seeds,
// DTRAIN_SIM_SEED replays one.
#include "tests/allreduce/collective_sim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>

namespace dtrain {
namespace {

enum class Fault { kNone, kDeath, kFreeze, kCut, kDamage, kTruncate, kRepeat, kLoss, kOlderView, kNewerView, kOtherCall };

struct Tally {
  int64_t finished = 0, errors = 0, dropped = 0;
  std::map<Fault, int64_t> seeds_with_errors;
};

SimOptions DrawJob(uint64_t seed, Rng& draws) {
  SimOptions options = {.ranks = 2 + static_cast<int>(draws.Below(draws.Below(4) == 0 ? 8 : 3)), .seed = seed};
  options.chunks = {.chunk_bytes = 8 << draws.Below(4), .window = 1 + static_cast<int>(draws.Below(3))};
  options.delay_max = std::chrono::microseconds(1 + draws.Below(4000));
  constexpr DType kTypes[] = {DType::kF32, DType::kF64, DType::kBF16, DType::kI64};
  for (uint64_t steps = 1 + draws.Below(3); steps > 0; --steps) {
    options.steps.push_back({.call = static_cast<SimCall>(draws.Below(7)),
                             .dtype = kTypes[draws.Below(4)],
                             .count = static_cast<int64_t>(draws.Below(draws.Below(3) == 0 ? 100 : 20)),
                             .root = static_cast<int>(draws.Below(static_cast<uint64_t>(options.ranks))),
                             .seed = seed});
  }
  return options;
}

// Puts the fault on the `when`-th message of `victim`.
void Inject(CollectiveSim& sim, Fault fault, int victim, int64_t when, Rng& draws) {
  sim.on_message = [&sim, &draws, fault, victim, when, count = int64_t{0}](int from, int to, std::vector<std::byte>& message) mutable {
    if (from != victim || count++ != when) return true;
    const auto resend = [&](int64_t view) {
      FrameHeader header = ParseFrame(message)->header;
      header.view = view;
      const auto payload = std::span<const std::byte>(message).subspan(kFrameHeaderBytes);
      auto other = EncodeFrameHeader(header, payload);
      other.insert(other.end(), payload.begin(), payload.end());
      sim.network().Send(from, to, std::move(other));
    };
    switch (fault) {
      case Fault::kNone:
      case Fault::kOtherCall:
        break;
      case Fault::kDeath:
        sim.Kill(from);
        break;
      case Fault::kFreeze:
        sim.Freeze(from);
        break;
      case Fault::kCut:
        sim.network().Cut(from, to);
        break;
      case Fault::kDamage:
        message[draws.Below(message.size())] ^= static_cast<std::byte>(1 + draws.Below(255));
        break;
      case Fault::kTruncate:
        message.resize(draws.Below(message.size()));
        break;
      case Fault::kRepeat:
        sim.network().Send(from, to, message);
        break;
      case Fault::kLoss:
        return false;
      case Fault::kOlderView:
        resend(CollectiveSim::kView - 1);
        break;
      case Fault::kNewerView:
        resend(CollectiveSim::kView + 1);
        break;
    }
    return true;
  };
}

// Another call than `step`.
SimStep Otherwise(SimStep step, int ranks, Rng& draws) {
  switch (draws.Below(4)) {
    case 0:
      step.call = static_cast<SimCall>((static_cast<uint64_t>(step.call) + 1 + draws.Below(6)) % 7);
      break;
    case 1:
      step.count += 1 + static_cast<int64_t>(draws.Below(20));
      break;
    case 2:
      step.dtype = step.dtype == DType::kF32 ? DType::kF64 : DType::kF32;
      break;
    default:
      step.root = (step.root + 1) % ranks;
  }
  return step;
}

// What is wrong with the run of a seed; empty if nothing.
std::string RunSeed(uint64_t seed, Tally& tally) {
  Rng draws(seed, RngPurpose::kSynthetic);
  const SimOptions options = DrawJob(seed, draws);
  const auto fault = draws.Below(3) == 0 ? Fault::kNone : static_cast<Fault>(1 + draws.Below(10));
  const int victim = static_cast<int>(draws.Below(static_cast<uint64_t>(options.ranks)));
  CollectiveSim sim(options);
  Inject(sim, fault, victim, static_cast<int64_t>(draws.Below(12)), draws);
  if (fault == Fault::kOtherCall) {
    const size_t at = draws.Below(options.steps.size());
    sim.other_steps[{victim, at}] = Otherwise(options.steps[at], options.ranks, draws);
  }
  if (!sim.Run()) return "it never comes to an end";
  bool error = false;
  for (int rank = 0; rank < options.ranks; ++rank) {
    const CollectiveSim::Rank& mine = sim.ranks()[static_cast<size_t>(rank)];
    if (!mine.wrong.empty()) return Cat("wrong result: ", mine.wrong);
    tally.dropped += mine.session->dropped_of_older_views();
    if (rank == victim && (fault == Fault::kDeath || fault == Fault::kFreeze)) continue;
    if (mine.status.ok()) {
      if (mine.results != options.steps.size()) return Cat("rank ", rank, " hangs in call ", mine.step);
      ++tally.finished;
      continue;
    }
    error = true;
    ++tally.errors;
    if (mine.finished > mine.call_deadline) return Cat("rank ", rank, " reports its error after its deadline");
    if (Message(mine.status).find("rank") == std::string::npos) return Cat("error names no rank: ", Message(mine.status));
    if (fault == Fault::kNone || fault == Fault::kOlderView) return Cat("rank ", rank, " fails without a reason: ", Message(mine.status));
  }
  tally.seeds_with_errors[fault] += error;
  return "";
}

TEST(CollectiveSim, EveryRankEndsWithTheSerialResultOrAnErrorByItsDeadline) {
  const auto number = [](const char* name, uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : static_cast<uint64_t>(ParseInt(text).value_or(0));
  };
  const uint64_t one = number("DTRAIN_SIM_SEED", UINT64_MAX);
  const uint64_t begin = one == UINT64_MAX ? 0 : one, end = one == UINT64_MAX ? number("DTRAIN_SIM_SEEDS", 20'000) : one + 1;
  Tally tally;
  for (uint64_t seed = begin; seed < end; ++seed) {
    const std::string fault = RunSeed(seed, tally);
    ASSERT_EQ(fault, "") << "replay with DTRAIN_SIM_SEED=" << seed;
  }
  if (end - begin < 5000) return;
  // The faults were really there.
  EXPECT_GT(tally.finished, 5000);
  EXPECT_GT(tally.errors, 1000);
  EXPECT_GT(tally.dropped, 50);
  for (const Fault fault :
       {Fault::kDeath, Fault::kFreeze, Fault::kCut, Fault::kDamage, Fault::kTruncate, Fault::kRepeat, Fault::kLoss, Fault::kNewerView}) {
    EXPECT_GT(tally.seeds_with_errors[fault], 30) << "fault " << static_cast<int>(fault);
  }
}

// What the headers state. With messages that all take one second, the seconds are the messages in sequence.
struct Cost {
  int64_t seconds;
  std::vector<int64_t> payload_bytes;  // sent, by rank
};
Cost CostOf(int ranks, SimStep step, const ChunkOptions& chunks = {.chunk_bytes = 1 << 20, .window = 4}) {
  SimOptions options = {.ranks = ranks, .steps = {step}, .chunks = chunks, .delay_max = std::chrono::seconds(1), .exact_delays = true};
  options.deadline = std::chrono::hours(1);
  options.pause_max = Duration(0);
  CollectiveSim sim(options);
  const TimePoint begin = sim.network().now();
  EXPECT_TRUE(sim.Run());
  Cost cost = {};
  for (const auto& rank : sim.ranks()) {
    EXPECT_TRUE(rank.status.ok()) << rank.status;
    EXPECT_EQ(rank.wrong, "");
    cost.seconds = std::max(cost.seconds, std::chrono::duration_cast<std::chrono::seconds>(rank.finished - begin).count());
    cost.payload_bytes.push_back(rank.payload_bytes);
  }
  return cost;
}

TEST(CollectiveCost, RingTakesTheStatedStepsAndBytes) {
  for (int64_t n = 2; n <= 16; ++n) {
    const int64_t count = 120 * n, bytes = count * 4;
    const Cost scatter = CostOf(static_cast<int>(n), {.call = SimCall::kReduceScatter, .count = count});
    EXPECT_EQ(scatter.seconds, n - 1);
    EXPECT_THAT(scatter.payload_bytes, ::testing::Each((n - 1) * bytes / n)) << n;
    const Cost reduce = CostOf(static_cast<int>(n), {.call = SimCall::kRing, .count = count});
    EXPECT_EQ(reduce.seconds, 2 * (n - 1));
    EXPECT_THAT(reduce.payload_bytes, ::testing::Each(2 * (n - 1) * bytes / n)) << n;
    // bf16: as float round the first time.
    const Cost half = CostOf(static_cast<int>(n), {.call = SimCall::kRing, .dtype = DType::kBF16, .count = count});
    EXPECT_THAT(half.payload_bytes, ::testing::Each((n - 1) * count / n * (4 + 2))) << n;
    // Unequal slices: one element more or less a hop.
    const Cost odd = CostOf(static_cast<int>(n), {.call = SimCall::kRing, .count = count + n / 2});
    for (const int64_t sent : odd.payload_bytes) EXPECT_NEAR(static_cast<double>(sent), 2.0 * (n - 1) * (bytes + n * 2) / n, 8.0 * n) << n;
  }
}

// Many chunks are on their way at once: k chunks a slice take k / window rounds, not k.
TEST(CollectiveCost, RingIsPipelined) {
  const SimStep step = {.call = SimCall::kRing, .count = 4 * 16 * 2};
  const ChunkOptions chunks = {.chunk_bytes = 8, .window = 8};  // 16 chunks of two floats a slice
  const Cost cost = CostOf(4, step, chunks);
  EXPECT_EQ(cost.seconds, 2 * 2 * 3);
  EXPECT_EQ(CostOf(4, step, {.chunk_bytes = 8, .window = 16}).seconds, 2 * 3);
  EXPECT_THAT(cost.payload_bytes, ::testing::Each(2 * 3 * 16 * 8));
}

TEST(CollectiveCost, DoublingTakesTheStatedStepsAndBytes) {
  for (int n = 2; n <= 16; ++n) {
    const int64_t bytes = 400;
    const auto power = static_cast<int>(std::bit_floor(static_cast<unsigned>(n)));
    const int64_t rounds = std::countr_zero(static_cast<unsigned>(power)), extra = power == n ? 0 : 2;
    const Cost cost = CostOf(n, {.call = SimCall::kTree, .count = bytes / 4});
    // A pair's first and last message may go beside what other ranks exchange.
    EXPECT_LE(cost.seconds, rounds + extra) << n;
    EXPECT_GE(cost.seconds, rounds + extra / 2) << n;
    for (int rank = 0; rank < n; ++rank) {
      const bool paired = rank < 2 * (n - power);
      const int64_t messages = !paired ? rounds : rank % 2 == 0 ? 1 : rounds + 1;
      EXPECT_EQ(cost.payload_bytes[static_cast<size_t>(rank)], messages * bytes) << "rank " << rank << " of " << n;
    }
    const Cost barrier = CostOf(n, {.call = SimCall::kBarrier});
    EXPECT_EQ(barrier.seconds, cost.seconds) << n;
    EXPECT_THAT(barrier.payload_bytes, ::testing::Each(0));
  }
}

TEST(CollectiveCost, BroadcastAndDirectExchangeTakeTheStatedStepsAndBytes) {
  for (int n = 2; n <= 16; ++n) {
    const Cost broadcast = CostOf(n, {.call = SimCall::kBroadcast, .count = 1000, .root = n / 2});
    EXPECT_EQ(broadcast.seconds, std::bit_width(static_cast<unsigned>(n)) - 1) << n;
    int64_t all = 0;
    for (const int64_t sent : broadcast.payload_bytes) {
      all += sent;
      EXPECT_LE(sent, 1000 * std::bit_width(static_cast<unsigned>(n - 1)));
    }
    EXPECT_EQ(all, 1000 * (n - 1)) << n;
    EXPECT_EQ(CostOf(n, {.call = SimCall::kAllToAll, .count = 1000}).seconds, 1) << n;
    const Cost gather = CostOf(n, {.call = SimCall::kAllGather, .count = 1000});
    EXPECT_EQ(gather.seconds, 1) << n;
    for (int rank = 0; rank < n; ++rank) EXPECT_EQ(gather.payload_bytes[static_cast<size_t>(rank)], (n - 1) * 500 * (rank % 3 + 1));
  }
}

// However slow a rank is, nothing piles up in front of it: window chunks a rank are on their way, and no more.
TEST(CollectiveCost, RingKeepsNoMoreThanItsWindowOnTheWay) {
  SimOptions options = {.ranks = 4, .steps = {{.call = SimCall::kRing, .count = 4 * 64 * 2}}, .chunks = {.chunk_bytes = 8, .window = 2}};
  options.deadline = std::chrono::hours(1);
  options.delay_max = std::chrono::milliseconds(1);
  CollectiveSim sim(options);
  int64_t sent = 0, most = 0;
  sim.on_message = [&](int, int, auto&) {
    int64_t got = 0;
    for (const auto& rank : sim.ranks()) got += rank.messages;
    ++sent;
    int64_t waiting = 0;
    for (const auto& rank : sim.ranks()) {
      for (const auto& inbox : rank.inbox) waiting += static_cast<int64_t>(inbox.size());
    }
    most = std::max(most, waiting);
    return true;
  };
  ASSERT_TRUE(sim.Run());
  EXPECT_GT(sent, 1000);
  EXPECT_LE(most, 4 * 2);
}

}  // namespace
}  // namespace dtrain
