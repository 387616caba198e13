// Goal: every collective gives what its definition says, bit for bit, whatever the number of ranks and the size; a barrier
// lets nobody go early and everything written before it is read after it. Method: ranks as threads, against the serial
// definition, with sizes around that of the window through which the data goes.
#include "allreduce/shm_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "tests/allreduce/thread_ranks.h"

namespace dtrain {
namespace {

constexpr int64_t kWindow = 256 << 10;  // bytes
constexpr int kRanks[] = {1, 2, 3, 4, 8};

std::vector<std::byte> BytesOf(int rank, int64_t size) {
  std::vector<std::byte> bytes(size);
  for (int64_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 251 + rank * 97 + 5);
  return bytes;
}

// Of very different size, so that their sum depends on the order.
template <typename T>
std::vector<T> NumbersOf(int rank, int64_t count) {
  Rng rng(17, RngPurpose::kSynthetic, static_cast<uint64_t>(rank));
  std::vector<T> numbers(count);
  for (T& number : numbers) number = std::ldexp(static_cast<T>(rng.Uniform()) - T{0.5}, static_cast<int>(rng.Below(24)));
  return numbers;
}

template <typename T>
class ShmAllReduce : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ShmAllReduce, Types);

TYPED_TEST(ShmAllReduce, IsTheSumInOrderOfRanksBitForBit) {
  using T = TypeParam;
  constexpr int64_t kFit = kWindow / sizeof(T);
  for (const int size : kRanks) {
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{7}, kFit - 1, kFit, kFit + 1, 2 * kFit + 3}) {
      std::vector<T> expected = NumbersOf<T>(0, count);
      for (int rank = 1; rank < size; ++rank) {
        const auto numbers = NumbersOf<T>(rank, count);
        for (int64_t i = 0; i < count; ++i) expected[i] += numbers[i];
      }
      ExpectAllOk(RunRanks(size, {}, [&](ShmCommunicator& communicator) -> Status {
        auto data = NumbersOf<T>(communicator.rank(), count);
        RETURN_IF_ERROR(communicator.AllReduce(std::span<T>(data), Soon()));
        if (count > 0 && std::memcmp(data.data(), expected.data(), count * sizeof(T)) != 0)
          return Internal(size, " ranks, ", count, " numbers: another sum");
        return OkStatus();
      }));
    }
  }
}

TEST(ShmBroadcast, GivesTheBytesOfTheRootToAll) {
  for (const int size : kRanks) {
    ExpectAllOk(RunRanks(size, {}, [&](ShmCommunicator& communicator) -> Status {
      for (const int64_t bytes : {int64_t{0}, int64_t{1}, kWindow - 1, kWindow, kWindow + 1, 2 * kWindow + 3}) {
        for (int root = 0; root < size; ++root) {
          auto data = BytesOf(communicator.rank(), bytes);
          RETURN_IF_ERROR(communicator.Broadcast(data, root, Soon()));
          if (data != BytesOf(root, bytes)) return Internal(bytes, " bytes from ", root, ": not those of the root");
        }
      }
      return OkStatus();
    }));
  }
}

TEST(ShmAllGather, GivesTheBytesOfAllInOrderOfRanks) {
  for (const int size : kRanks) {
    ExpectAllOk(RunRanks(size, {}, [&](ShmCommunicator& communicator) -> Status {
      for (const int64_t bytes : {int64_t{0}, int64_t{1}, kWindow - 1, kWindow, kWindow + 1, 2 * kWindow + 3}) {
        std::vector<std::byte> all(bytes * size, std::byte{0xee}), expected;
        for (int rank = 0; rank < size; ++rank) {
          const auto of_rank = BytesOf(rank, bytes);
          expected.insert(expected.end(), of_rank.begin(), of_rank.end());
        }
        RETURN_IF_ERROR(communicator.AllGather(BytesOf(communicator.rank(), bytes), all, Soon()));
        if (all != expected) return Internal(bytes, " bytes a rank: not what was given");
      }
      return OkStatus();
    }));
  }
}

TEST(ShmBarrier, LetsNobodyGoBeforeAllHaveCome) {
  for (const int size : {2, 3, 8}) {
    const int rounds = size == 8 ? 60 : 1500;
    std::atomic<int> come = 0;
    ExpectAllOk(RunRanks(size, {}, [&](ShmCommunicator& communicator) -> Status {
      Rng rng(1, RngPurpose::kSynthetic, static_cast<uint64_t>(communicator.rank()));
      for (int round = 1; round <= rounds; ++round) {
        if (rng.Below(50) == 0) std::this_thread::sleep_for(std::chrono::microseconds(rng.Below(300)));  // some find the others asleep
        come.fetch_add(1);
        RETURN_IF_ERROR(communicator.Barrier(Soon()));
        const int seen = come.load();
        // All of this round, and of the next at most those of the others.
        if (seen < size * round || seen > size * round + size - 1) return Internal("round ", round, ": ", seen, " had come");
      }
      return OkStatus();
    }));
  }
}

// The memory order: plain writes before a barrier, plain reads behind it, nothing else between the ranks.
TEST(ShmBarrier, WhatWasWrittenBeforeItIsReadBehindIt) {
  constexpr int kSize = 3, kRounds = 3000;
  constexpr int64_t kWords = 64;
  const ShmOptions options = {.rank_region_bytes = kWords * 8, .shared_region_bytes = kSize * 8};
  ExpectAllOk(RunRanks(kSize, options, [&](ShmCommunicator& communicator) -> Status {
    const auto words = [&](int rank) { return reinterpret_cast<int64_t*>(communicator.rank_region(rank).data()); };
    auto* shared = reinterpret_cast<int64_t*>(communicator.shared_region().data());
    for (int64_t round = 1; round <= kRounds; ++round) {
      for (int64_t i = 0; i < kWords; ++i) words(communicator.rank())[i] = round * kWords + i;
      shared[communicator.rank()] = -round;
      RETURN_IF_ERROR(communicator.Barrier(Soon()));
      for (int rank = 0; rank < kSize; ++rank) {
        for (int64_t i = 0; i < kWords; ++i) {
          if (words(rank)[i] != round * kWords + i) return Internal("round ", round, ": stale word ", i, " of rank ", rank);
        }
        if (shared[rank] != -round) return Internal("round ", round, ": stale shared word of rank ", rank);
      }
      RETURN_IF_ERROR(communicator.Barrier(Soon()));
    }
    return OkStatus();
  }));
}

TEST(ShmRegions, AreZeroAtFirstOnPagesApartAndSeenByAll) {
  constexpr int kSize = 3;
  ExpectAllOk(RunRanks(kSize, {.rank_region_bytes = 5000, .shared_region_bytes = 100}, [&](ShmCommunicator& communicator) -> Status {
    for (int rank = 0; rank < kSize; ++rank) {
      const auto region = communicator.rank_region(rank);
      if (region.size() != 5000 || reinterpret_cast<uintptr_t>(region.data()) % 4096 != 0) return Internal("region of rank ", rank);
      for (const std::byte byte : region) {
        if (byte != std::byte{0}) return Internal("region of rank ", rank, " is not zero");
      }
    }
    if (communicator.shared_region().size() != 100) return Internal("shared region");
    RETURN_IF_ERROR(communicator.Barrier(Soon()));
    const auto mine = communicator.rank_region(communicator.rank());
    std::fill(mine.begin(), mine.end(), static_cast<std::byte>(communicator.rank() + 1));
    if (communicator.rank() == 1) communicator.shared_region()[99] = std::byte{42};
    RETURN_IF_ERROR(communicator.Barrier(Soon()));
    for (int rank = 0; rank < kSize; ++rank) {
      for (const std::byte byte : communicator.rank_region(rank)) {
        if (byte != static_cast<std::byte>(rank + 1)) return Internal("region of rank ", rank, " was written by another");
      }
    }
    return communicator.shared_region()[99] == std::byte{42} ? OkStatus() : Internal("the shared region is not shared");
  }));
}

TEST(ShmCommunicator, CollectivesOfEveryKindFollowOneAnother) {
  ExpectAllOk(RunRanks(4, {}, [&](ShmCommunicator& communicator) -> Status {
    for (int round = 0; round < 50; ++round) {
      std::vector<double> sums = {static_cast<double>(communicator.rank()), 1.0};
      RETURN_IF_ERROR(communicator.AllReduce(std::span<double>(sums), Soon()));
      if (sums != std::vector<double>{6, 4}) return Internal("sums");
      std::vector<std::byte> word(3, static_cast<std::byte>(communicator.rank() + round));
      RETURN_IF_ERROR(communicator.Broadcast(word, round % 4, Soon()));
      if (word[0] != static_cast<std::byte>(round % 4 + round)) return Internal("broadcast");
      RETURN_IF_ERROR(communicator.Barrier(Soon()));
    }
    return OkStatus();
  }));
}

}  // namespace
}  // namespace dtrain
