// Goal: bf16 is rounded to nearest, ties to even; slices cover everything once; kernels give the same bits whatever the number
// of operands and elements. Method: the definition, in exact arithmetic or element by element.
#include "allreduce/elements.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/allreduce/serial_sums.h"

namespace dtrain {
namespace {

// The nearer of the two neighbours among all bf16 numbers, in exact (double) arithmetic.
Bf16 Nearest(float number) {
  const auto bits = std::bit_cast<uint32_t>(number);
  const Bf16 toward_zero = {static_cast<uint16_t>(bits >> 16)}, away = {static_cast<uint16_t>((bits >> 16) + 1)};
  const double below = ToFloat(toward_zero);
  // Beyond the largest number the next step of the same width stands for infinity.
  const double above = std::isinf(ToFloat(away)) ? std::copysign(std::ldexp(1.0, 128), number) : ToFloat(away);
  const double to_below = std::abs(number - below), to_above = std::abs(above - number);
  if (to_below != to_above) return to_below < to_above ? toward_zero : away;
  return toward_zero.bits % 2 == 0 ? toward_zero : away;
}

TEST(Bf16, IsRoundedToNearestAndTiesToEven) {
  Rng rng(3, RngPurpose::kSynthetic);
  for (int i = 0; i < 300'000; ++i) {
    // Every third one a tie, or beside one.
    uint32_t bits = rng.Next();
    if (i % 3 == 0) bits = (bits & 0xffff0000) + 0x8000 + static_cast<uint32_t>(rng.Below(3)) - 1;
    const float number = std::bit_cast<float>(bits);
    if (!std::isfinite(number)) continue;
    ASSERT_EQ(RoundToBf16(number), Nearest(number)) << number;
  }
  EXPECT_EQ(RoundToBf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(RoundToBf16(-0.0f).bits, 0x8000);
  EXPECT_EQ(RoundToBf16(std::numeric_limits<float>::infinity()).bits, 0x7f80);
  EXPECT_EQ(RoundToBf16(std::numeric_limits<float>::max()).bits, 0x7f80);
}

TEST(Bf16, NanStaysNan) {
  for (const uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xffffffffu, 0xff800001u, 0x7fc00000u}) {
    EXPECT_TRUE(std::isnan(ToFloat(RoundToBf16(std::bit_cast<float>(bits))))) << bits;
  }
}

TEST(SliceOf, CoversAllOnceInOrderAndIsAsEqualAsCanBe) {
  for (const int ranks : {1, 2, 3, 7, 16}) {
    for (const int64_t count : {0, 1, 2, 15, 16, 17, 1000}) {
      int64_t at = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const ElementRange slice = SliceOf(count, rank, ranks);
        EXPECT_EQ(slice.begin, at);
        EXPECT_GE(slice.size(), count / ranks);
        EXPECT_LE(slice.size(), (count + ranks - 1) / ranks);
        at = slice.end;
      }
      EXPECT_EQ(at, count);
    }
  }
}

template <typename T>
class SumInOrderOf : public ::testing::Test {};
using Types = ::testing::Types<float, double, Bf16, int64_t>;
TYPED_TEST_SUITE(SumInOrderOf, Types);

TYPED_TEST(SumInOrderOf, AnyNumberOfOperandsIsTakenFromTheLeftAlsoInPlace) {
  using T = TypeParam;
  for (int operands = 1; operands <= 9; ++operands) {
    for (const int64_t count : {0, 1, 7, 1023, 1024, 1025, 2500}) {
      std::vector<std::vector<T>> numbers;
      for (int i = 0; i < operands; ++i) numbers.push_back(NumbersOf<T>(i, count));
      const std::vector<T> expected = SerialSum(numbers, SumOrder::kRanks);
      std::vector<const std::byte*> bytes;
      for (const auto& each : numbers) bytes.push_back(std::as_bytes(std::span(each)).data());
      std::vector<T> sums(static_cast<size_t>(count));
      SumInOrder(DTypeOf<T>(), bytes, count, std::as_writable_bytes(std::span(sums)).data());
      EXPECT_EQ(sums, expected) << operands << " operands of " << count;
      auto& last = numbers.back();
      SumInOrder(DTypeOf<T>(), bytes, count, std::as_writable_bytes(std::span(last)).data());
      EXPECT_EQ(last, expected) << operands << " operands of " << count << " in place";
    }
  }
}

}  // namespace
}  // namespace dtrain
