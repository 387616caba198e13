// Elements as collectives see them: a type and bytes; and the few kernels in which sums are taken.
// A sum of bf16 is taken in float and rounded once, at its end; so a partial sum has the accumulator's type, on its way
// between ranks too. Sums of int64 wrap around.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/flat_layout.h"  // ElementRange
#include "base/status.h"
#include "base/tensor_view.h"

namespace dtrain {

// The upper half of a float.
struct Bf16 {
  uint16_t bits = 0;
  bool operator==(const Bf16&) const = default;
};

inline float ToFloat(Bf16 number) { return std::bit_cast<float>(static_cast<uint32_t>(number.bits) << 16); }
// To nearest, ties to even; a NaN stays one.
Bf16 RoundToBf16(float number);

template <typename T>
inline constexpr bool kIsSummable = false;
template <>
inline constexpr bool kIsSummable<float> = true;
template <>
inline constexpr bool kIsSummable<double> = true;
template <>
inline constexpr bool kIsSummable<Bf16> = true;
template <>
inline constexpr bool kIsSummable<int64_t> = true;

template <typename T>
concept Summable = kIsSummable<T>;

template <Summable T>
constexpr DType DTypeOf() {
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, double>) return DType::kF64;
  if constexpr (std::is_same_v<T, Bf16>) return DType::kBF16;
  return DType::kI64;
}

// Views. `bytes` is a whole number of elements, aligned to them.
struct ConstElements {
  DType dtype = DType::kF32;
  std::span<const std::byte> bytes;

  ConstElements(DType type, std::span<const std::byte> data) : dtype(type), bytes(data) {}
  template <Summable T>
  ConstElements(std::span<const T> data) : dtype(DTypeOf<T>()), bytes(std::as_bytes(data)) {}
  template <Summable T>
  ConstElements(std::span<T> data) : dtype(DTypeOf<T>()), bytes(std::as_bytes(data)) {}
  int64_t count() const { return static_cast<int64_t>(bytes.size()) / ElementBytes(dtype); }
};

struct Elements {
  DType dtype = DType::kF32;
  std::span<std::byte> bytes;

  Elements(DType type, std::span<std::byte> data) : dtype(type), bytes(data) {}
  template <Summable T>
  Elements(std::span<T> data) : dtype(DTypeOf<T>()), bytes(std::as_writable_bytes(data)) {}
  operator ConstElements() const { return {dtype, bytes}; }
  int64_t count() const { return static_cast<int64_t>(bytes.size()) / ElementBytes(dtype); }
};

// kInvalidArgument unless sums of `elements` can be taken: F32, F64, BF16, I64, whole and aligned.
Status CheckSummable(const ConstElements& elements);

// The slice that rank `rank` of `ranks` owns of `count` elements: as equal as can be, in order of ranks.
ElementRange SliceOf(int64_t count, int rank, int ranks);

// What partial sums of `dtype` are kept in.
DType AccumulatorOf(DType dtype);

// Kernels over `count` elements of a summable `dtype`. `acc` has elements of AccumulatorOf(dtype), the others of dtype.
void Widen(DType dtype, const std::byte* from, int64_t count, std::byte* acc);                             // acc = from
void Narrow(DType dtype, const std::byte* acc, int64_t count, std::byte* out);                             // out = round(acc)
void AddTo(DType dtype, std::byte* acc, const std::byte* right, int64_t count);                            // acc = acc + right
void AddPartials(DType dtype, const std::byte* left, std::byte* right, int64_t count);                     // right = left + right, both acc
void FinishSum(DType dtype, const std::byte* acc, const std::byte* right, int64_t count, std::byte* out);  // out = round(acc + right)
// out = round(operands[0] + operands[1] + ...), from the left; `out` may be one of the operands.
void SumInOrder(DType dtype, std::span<const std::byte* const> operands, int64_t count, std::byte* out);

}  // namespace dtrain
