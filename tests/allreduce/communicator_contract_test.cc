// Goal: every communicator keeps the contract of allreduce/communicator.h, bit for bit, whatever the number of ranks and the
// sizes. Method: one body for all of them, ranks as threads, against the serial definition; sizes around every border at
// which data is cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <numeric>

#include "base/rng.h"
#include "cluster/tcp_transport.h"
#include "tests/allreduce/link_ranks.h"
#include "tests/allreduce/serial_sums.h"
#include "tests/allreduce/thread_ranks.h"
#include "tests/sim/sim_transport.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;
using Body = std::function<Status(Communicator&)>;

struct Implementation {
  const char* name;
  SumOrder all_reduce, reduce_scatter;
  std::vector<int> ranks;
  std::vector<int64_t> bytes;  // sizes worth trying
  std::function<std::vector<Status>(int, const Body&)> run;

  // Many ranks cut a window into pieces, so smaller sizes reach every border.
  std::vector<int64_t> Sizes(int size) const {
    std::vector<int64_t> sizes;
    for (const int64_t each : bytes) {
      if (each <= 64 << 10 || each * size <= 2 << 20) sizes.push_back(each);
    }
    return sizes;
  }
};

void PrintTo(const Implementation& implementation, std::ostream* out) { *out << implementation.name; }

// A rank whose result is wrong ends the waits of the others.
Body OrAbort(const Body& body) {
  return [body](Communicator& communicator) {
    const Status status = body(communicator);
    if (!status.ok()) communicator.Abort();
    return status;
  };
}

std::vector<Status> RunOverShm(int size, const Body& body) { return RunRanks(size, {}, OrAbort(body)); }

std::vector<Status> RunOverLinks(int size, int64_t tree_bytes_max, const Body& body) {
  SimTransport transport({.seed = 1, .delay_max = std::chrono::microseconds(20)});
  const LinkOptions options = {
      .group = {.job = 7, .view = 3, .exchange = 1}, .chunks = {.chunk_bytes = 1024, .window = 2}, .tree_bytes_max = tree_bytes_max};
  return RunLinkRanks(MakeMesh(transport, size), options, OrAbort(body));
}

std::vector<Status> RunOverTcp(int size, const Body& body) {
  TcpTransport transport;
  return RunLinkRanks(MakeMesh(transport, size), {.group = {.job = 7}, .tree_bytes_max = -1}, OrAbort(body));
}

constexpr int64_t kWindow = 256 << 10;
const std::vector<int64_t> kAroundChunks = {0, 8, 56, 1016, 1024, 1032, 9000, 20'008};

const Implementation kImplementations[] = {
    {"SharedMemory",
     SumOrder::kRanks,
     SumOrder::kRanks,
     {1, 2, 3, 4, 8, 16},
     {0, 8, 56, 16 << 10, kWindow - 8, kWindow, kWindow + 8, 2 * kWindow + 24},
     RunOverShm},
    {"Ring",
     SumOrder::kRing,
     SumOrder::kRing,
     {1, 2, 3, 4, 5, 8, 16},
     kAroundChunks,
     [](int size, const Body& body) { return RunOverLinks(size, -1, body); }},
    {"Tree",
     SumOrder::kDoubling,
     SumOrder::kRing,
     {2, 3, 4, 5, 6, 7, 8, 16},
     kAroundChunks,
     [](int size, const Body& body) { return RunOverLinks(size, 1 << 30, body); }},
    {"Tcp", SumOrder::kRing, SumOrder::kRing, {2, 3}, {0, 8, 300'000, 2'000'008}, RunOverTcp},
};

class CommunicatorContract : public ::testing::TestWithParam<Implementation> {
 protected:
  void Run(const Body& body) {
    for (const int size : GetParam().ranks) ExpectAllOk(GetParam().run(size, body));
  }
};

template <typename T>
bool Equal(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

// The numbers of all ranks of the largest count, made once; a smaller count is their beginning.
template <typename T>
class Inputs {
 public:
  Inputs(int ranks, int64_t count_max) {
    for (int rank = 0; rank < ranks; ++rank) all_.push_back(NumbersOf<T>(rank, count_max));
  }
  std::vector<std::vector<T>> First(int64_t count) const {
    std::vector<std::vector<T>> first;
    for (const auto& numbers : all_) first.emplace_back(numbers.begin(), numbers.begin() + count);
    return first;
  }

 private:
  std::vector<std::vector<T>> all_;
};

template <typename T>
void SumsAreRight(const Implementation& implementation) {
  for (const int size : implementation.ranks) {
    const std::vector<int64_t> sizes = implementation.Sizes(size);
    const Inputs<T> inputs(size, sizes.back() / static_cast<int64_t>(sizeof(T)) + 1);
    std::vector<std::vector<std::vector<T>>> given;  // by case and rank
    std::vector<std::vector<T>> all_reduced, scattered;
    for (const int64_t bytes : sizes) {
      given.push_back(inputs.First(bytes / static_cast<int64_t>(sizeof(T))));
      all_reduced.push_back(SerialSum(given.back(), implementation.all_reduce));
      scattered.push_back(SerialSum(given.back(), implementation.reduce_scatter));
    }
    ExpectAllOk(implementation.run(size, [&](Communicator& communicator) -> Status {
      const auto rank = static_cast<size_t>(communicator.rank());
      for (size_t i = 0; i < given.size(); ++i) {
        const std::vector<T>& mine = given[i][rank];
        const auto count = static_cast<int64_t>(mine.size());
        std::vector<T> data = mine;
        RETURN_IF_ERROR(communicator.AllReduce(std::span<T>(data), Soon()));
        if (!Equal<T>(data, all_reduced[i])) return Internal(size, " ranks, ", count, " numbers: another sum");
        // Apart, and in place.
        const ElementRange slice = SliceOf(count, communicator.rank(), size);
        const auto expected = std::span<const T>(scattered[i]).subspan(slice.begin, slice.size());
        std::vector<T> result(slice.size());
        RETURN_IF_ERROR(communicator.ReduceScatter(std::span<const T>(mine), std::span<T>(result), Soon()));
        if (!Equal<T>(result, expected)) return Internal(size, " ranks, ", count, " numbers: another sum of the slice");
        data = mine;
        const auto place = std::span<T>(data).subspan(slice.begin, slice.size());
        RETURN_IF_ERROR(communicator.ReduceScatter(std::span<const T>(data), place, Soon()));
        if (!Equal<T>(place, expected)) return Internal(size, " ranks, ", count, " numbers: another sum of the slice in place");
        std::copy(mine.begin() + slice.begin, mine.begin() + slice.end, place.begin());
        if (!Equal<T>(data, mine)) return Internal(size, " ranks, ", count, " numbers: wrote outside of its slice");
      }
      return OkStatus();
    }));
  }
}

TEST_P(CommunicatorContract, SumsOfFloatsAreThoseOfTheStatedOrderBitForBit) { SumsAreRight<float>(GetParam()); }
TEST_P(CommunicatorContract, SumsOfDoublesAreThoseOfTheStatedOrderBitForBit) { SumsAreRight<double>(GetParam()); }
TEST_P(CommunicatorContract, SumsOfBf16AreTakenInFloatAndRoundedOnce) { SumsAreRight<Bf16>(GetParam()); }
TEST_P(CommunicatorContract, SumsOfInt64WrapAround) { SumsAreRight<int64_t>(GetParam()); }

TEST_P(CommunicatorContract, BroadcastGivesTheBytesOfTheRootToAll) {
  Run([&](Communicator& communicator) -> Status {
    for (const int64_t bytes : GetParam().Sizes(communicator.size())) {
      for (int root = 0; root < communicator.size(); root += 1 + communicator.size() / 4) {
        auto data = BytesOf(communicator.rank(), 0, static_cast<size_t>(bytes + 1));
        RETURN_IF_ERROR(communicator.Broadcast(data, root, Soon()));
        if (data != BytesOf(root, 0, data.size())) return Internal(bytes, " bytes from ", root, ": not those of the root");
      }
    }
    return communicator.Broadcast({}, communicator.size() - 1, Soon());
  });
}

TEST_P(CommunicatorContract, AllGatherGivesThePartsOfAllInOrderOfRanks) {
  Run([&](Communicator& communicator) -> Status {
    const int size = communicator.size();
    for (const int64_t bytes : GetParam().Sizes(communicator.size())) {
      std::vector<std::byte> all(static_cast<size_t>(bytes * size), std::byte{0xee}), expected;
      for (int rank = 0; rank < size; ++rank) {
        const auto of_rank = BytesOf(rank, 0, static_cast<size_t>(bytes));
        expected.insert(expected.end(), of_rank.begin(), of_rank.end());
      }
      RETURN_IF_ERROR(communicator.AllGather(BytesOf(communicator.rank(), 0, static_cast<size_t>(bytes)), all, Soon()));
      if (all != expected) return Internal(bytes, " bytes a rank: not what was given");
      // From its own place.
      const auto mine = std::span(all).subspan(static_cast<size_t>(bytes * communicator.rank()), static_cast<size_t>(bytes));
      const auto kept = BytesOf(communicator.rank(), 0, mine.size());
      std::fill(all.begin(), all.end(), std::byte{0xee});
      std::copy(kept.begin(), kept.end(), mine.begin());
      RETURN_IF_ERROR(communicator.AllGather(mine, all, Soon()));
      if (all != expected) return Internal(bytes, " bytes a rank in place: not what was given");
    }
    return OkStatus();
  });
}

// Rank r's part has r times the size, and there are ranks with nothing.
TEST_P(CommunicatorContract, AllGatherOfUnequalPartsGivesEachItsSize) {
  Run([&](Communicator& communicator) -> Status {
    for (const int64_t bytes : GetParam().Sizes(communicator.size())) {
      std::vector<std::vector<std::byte>> parts;
      for (int rank = 0; rank < communicator.size(); ++rank) parts.emplace_back(static_cast<size_t>(rank % 4 * bytes / 3));
      std::vector<std::span<std::byte>> to(parts.begin(), parts.end());
      const auto mine = BytesOf(communicator.rank(), 1, parts[static_cast<size_t>(communicator.rank())].size());
      RETURN_IF_ERROR(communicator.AllGatherParts(mine, to, Soon()));
      for (int rank = 0; rank < communicator.size(); ++rank) {
        const auto& part = parts[static_cast<size_t>(rank)];
        if (part != BytesOf(rank, 1, part.size())) return Internal("the part of rank ", rank, ", ", part.size(), " bytes");
      }
    }
    return OkStatus();
  });
}

TEST_P(CommunicatorContract, AllToAllTakesEachSliceToItsRankWhateverTheSizes) {
  Run([&](Communicator& communicator) -> Status {
    const int size = communicator.size(), rank = communicator.rank();
    for (const int64_t bytes : GetParam().Sizes(communicator.size())) {
      // No two pairs alike; some have nothing for each other.
      const auto size_of = [&](int from, int to) { return static_cast<size_t>((from * 5 + to * 3) % 7 * bytes / 8 + (from + to) % 2); };
      std::vector<std::vector<std::byte>> out, in;
      for (int other = 0; other < size; ++other) {
        out.push_back(BytesOf(rank, other, size_of(rank, other)));
        in.emplace_back(size_of(other, rank));
      }
      const std::vector<std::span<const std::byte>> to(out.begin(), out.end());
      const std::vector<std::span<std::byte>> from(in.begin(), in.end());
      RETURN_IF_ERROR(communicator.AllToAll(to, from, Soon()));
      for (int other = 0; other < size; ++other) {
        if (in[static_cast<size_t>(other)] != BytesOf(other, rank, size_of(other, rank))) return Internal("from rank ", other, ", ", bytes);
      }
    }
    return OkStatus();
  });
}

TEST_P(CommunicatorContract, BarrierLetsNobodyGoBeforeAllHaveCome) {
  for (const int size : GetParam().ranks) {
    std::atomic<int> come = 0;
    ExpectAllOk(GetParam().run(size, [&](Communicator& communicator) -> Status {
      Rng rng(1, RngPurpose::kSynthetic, static_cast<uint64_t>(communicator.rank()));
      for (int round = 1; round <= 30; ++round) {
        if (rng.Below(10) == 0) std::this_thread::sleep_for(std::chrono::microseconds(rng.Below(500)));
        come.fetch_add(1);
        RETURN_IF_ERROR(communicator.Barrier(Soon()));
        const int seen = come.load();
        if (seen < size * round || seen > size * round + size - 1) return Internal("round ", round, ": ", seen, " had come");
      }
      return OkStatus();
    }));
  }
}

// Calls that follow one another without a pause: a rank that is ahead must not disturb one that is behind.
TEST_P(CommunicatorContract, CallsOfEveryKindFollowOneAnother) {
  Run([&](Communicator& communicator) -> Status {
    Rng rng(5, RngPurpose::kSynthetic);  // the same draws on all ranks
    const int size = communicator.size(), rank = communicator.rank();
    for (int round = 0; round < 60; ++round) {
      switch (rng.Below(5)) {
        case 0: {
          std::vector<int64_t> sums = {rank, 1, round};
          RETURN_IF_ERROR(communicator.AllReduce(std::span<int64_t>(sums), Soon()));
          if (sums != std::vector<int64_t>{size * (size - 1) / 2, size, round * size}) return Internal("sums of round ", round);
          break;
        }
        case 1: {
          const int root = static_cast<int>(rng.Below(static_cast<uint64_t>(size)));
          std::vector<std::byte> word(3, static_cast<std::byte>(rank + round));
          RETURN_IF_ERROR(communicator.Broadcast(word, root, Soon()));
          if (word != std::vector<std::byte>(3, static_cast<std::byte>(root + round))) return Internal("broadcast of round ", round);
          break;
        }
        case 2:
          RETURN_IF_ERROR(communicator.Barrier(Soon()));
          break;
        case 3: {
          const std::vector<std::byte> mine(5, static_cast<std::byte>(rank * 3 + round));
          std::vector<std::byte> all(5 * static_cast<size_t>(size));
          RETURN_IF_ERROR(communicator.AllGather(mine, all, Soon()));
          for (size_t i = 0; i < all.size(); ++i) {
            if (all[i] != static_cast<std::byte>(i / 5 * 3 + static_cast<size_t>(round))) return Internal("gather of round ", round);
          }
          break;
        }
        default: {
          std::vector<double> data(static_cast<size_t>(size) * 2, rank + 1), slice(2);
          RETURN_IF_ERROR(communicator.ReduceScatter(std::span<double>(data), std::span<double>(slice), Soon()));
          if (slice != std::vector<double>(2, size * (size + 1) / 2)) return Internal("scatter of round ", round);
        }
      }
    }
    return OkStatus();
  });
}

TEST_P(CommunicatorContract, TypesWithoutSumsAndCutElementsAreRefused) {
  Run([&](Communicator& communicator) -> Status {
    std::vector<double> words(2);
    const auto bytes = std::as_writable_bytes(std::span(words));
    const Status half = communicator.AllReduce({DType::kF16, bytes}, Soon());
    if (half.code() != StatusCode::kInvalidArgument || Message(half).find("F16") == std::string::npos)
      return Internal("F16: ", Message(half));
    const Status cut = communicator.AllReduce({DType::kF64, bytes.first(15)}, Soon());
    if (cut.code() != StatusCode::kInvalidArgument) return Internal("15 bytes of F64: ", Message(cut));
    const Status askew = communicator.AllReduce({DType::kF32, bytes.subspan(2, 8)}, Soon());
    if (askew.code() != StatusCode::kInvalidArgument) return Internal("not aligned: ", Message(askew));
    return OkStatus();
  });
}

TEST_P(CommunicatorContract, RankThatDoesNotComeIsNamedAndNobodyHangs) {
  const int size = 3;
  std::atomic<int> gone = 0;
  const auto ended = GetParam().run(size, [&](Communicator& communicator) -> Status {
    if (communicator.rank() == 1) {
      while (gone < size - 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return OkStatus();
    }
    std::vector<float> data(1000, 1);
    // Rank 0 waits longer than rank 2, which needs rank 1 in every algorithm: it learns the cause from rank 2.
    const Status status =
        communicator.AllReduce(std::span<float>(data), Deadline::In(std::chrono::milliseconds(communicator.rank() == 2 ? 150 : 20'000)));
    ++gone;
    return status;
  });
  bool named = false;
  for (const int rank : {0, 2}) {
    EXPECT_THAT(ended[static_cast<size_t>(rank)].code(), ::testing::AnyOf(StatusCode::kDeadlineExceeded, StatusCode::kUnavailable));
    named = named || Message(ended[static_cast<size_t>(rank)]).find("rank 1 did not") != std::string::npos;
  }
  EXPECT_TRUE(named) << ended[0] << "\n" << ended[2];
}

TEST_P(CommunicatorContract, AbortEndsTheWaitsOfAll) {
  const auto ended = GetParam().run(3, [&](Communicator& communicator) -> Status {
    if (communicator.rank() == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      communicator.Abort();
    }
    return communicator.Barrier(Soon());
  });
  for (const Status& status : ended) EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
}

INSTANTIATE_TEST_SUITE_P(All, CommunicatorContract, ::testing::ValuesIn(kImplementations),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace dtrain
