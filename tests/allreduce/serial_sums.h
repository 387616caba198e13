// The oracle of every sum: the numbers of all ranks in one place, added one after another in the order that an algorithm's
// header states.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "allreduce/elements.h"
#include "base/rng.h"

namespace dtrain {

enum class SumOrder { kRanks, kRing, kDoubling };

template <typename T>
struct Serial {
  using Acc = std::conditional_t<std::is_same_v<T, Bf16>, float, T>;
  static Acc Load(T number) {
    if constexpr (std::is_same_v<T, Bf16>) {
      return ToFloat(number);
    } else {
      return number;
    }
  }
  static Acc Add(Acc left, Acc right) {
    if constexpr (std::is_same_v<T, int64_t>) {
      return static_cast<int64_t>(static_cast<uint64_t>(left) + static_cast<uint64_t>(right));
    } else {
      return left + right;
    }
  }
  static T Store(Acc number) {
    if constexpr (std::is_same_v<T, Bf16>) {
      return RoundToBf16(number);
    } else {
      return number;
    }
  }

  // Of `numbers`, one a rank, for an element that lies in the ring's slice `slice`.
  static T Sum(const std::vector<T>& numbers, SumOrder order, int slice) {
    const size_t ranks = numbers.size();
    if (order == SumOrder::kDoubling) {
      const size_t pairs = ranks - std::bit_floor(ranks);
      std::vector<Acc> leaves;
      for (size_t rank = 0; rank < 2 * pairs; rank += 2) leaves.push_back(Add(Load(numbers[rank]), Load(numbers[rank + 1])));
      for (size_t rank = 2 * pairs; rank < ranks; ++rank) leaves.push_back(Load(numbers[rank]));
      for (; leaves.size() > 1; leaves.resize(leaves.size() / 2)) {
        for (size_t i = 0; i < leaves.size() / 2; ++i) leaves[i] = Add(leaves[2 * i], leaves[2 * i + 1]);
      }
      return Store(leaves[0]);
    }
    const size_t first = order == SumOrder::kRing ? static_cast<size_t>(slice) + 1 : 0;
    Acc sum = Load(numbers[first % ranks]);
    for (size_t i = 1; i < ranks; ++i) sum = Add(sum, Load(numbers[(first + i) % ranks]));
    return Store(sum);
  }
};

// Of very different size, so that their sum depends on the order; integers of all sizes, so that sums wrap.
template <typename T>
std::vector<T> NumbersOf(int rank, int64_t count, uint64_t seed = 17) {
  Rng rng(seed, RngPurpose::kSynthetic, static_cast<uint64_t>(rank));
  std::vector<T> numbers(static_cast<size_t>(count));
  for (T& number : numbers) {
    if constexpr (std::is_same_v<T, int64_t>) {
      number = static_cast<int64_t>(rng.Next64());
    } else {
      const double drawn = std::ldexp(static_cast<double>(rng.Uniform()) - 0.5, static_cast<int>(rng.Below(24)));
      if constexpr (std::is_same_v<T, Bf16>) {
        number = RoundToBf16(static_cast<float>(drawn));
      } else {
        number = static_cast<T>(drawn);
      }
    }
  }
  return numbers;
}

// The sum over ranks of `inputs`, one vector a rank.
template <typename T>
std::vector<T> SerialSum(const std::vector<std::vector<T>>& inputs, SumOrder order) {
  const auto ranks = static_cast<int>(inputs.size());
  const auto count = static_cast<int64_t>(inputs[0].size());
  std::vector<T> sums(inputs[0].size()), numbers(inputs.size());
  for (int slice = 0; slice < ranks; ++slice) {
    const ElementRange range = SliceOf(count, slice, ranks);
    for (int64_t i = range.begin; i < range.end; ++i) {
      for (size_t rank = 0; rank < inputs.size(); ++rank) numbers[rank] = inputs[rank][static_cast<size_t>(i)];
      sums[static_cast<size_t>(i)] = Serial<T>::Sum(numbers, order, slice);
    }
  }
  return sums;
}

inline std::vector<std::byte> BytesOf(int from, int to, size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 251 + static_cast<size_t>(from * 97 + to * 57 + 5));
  return bytes;
}

}  // namespace dtrain
