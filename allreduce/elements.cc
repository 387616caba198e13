#include "allreduce/elements.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/check.h"

namespace dtrain {
namespace {

// Accumulators stay in the first-level cache.
constexpr int64_t kTileElements = 1024;

// Numbers in which a sum is taken. int64 as unsigned: overflow wraps instead of being undefined.
template <typename T>
struct Traits {
  using Acc = T;
  static Acc Load(T number) { return number; }
  static T Store(Acc number) { return number; }
};
template <>
struct Traits<Bf16> {
  using Acc = float;
  static float Load(Bf16 number) { return ToFloat(number); }
  static Bf16 Store(float number) { return RoundToBf16(number); }
};

template <typename T>
const T* As(const std::byte* bytes) {
  return reinterpret_cast<const T*>(bytes);
}
template <typename T>
T* As(std::byte* bytes) {
  return reinterpret_cast<T*>(bytes);
}

// body(T{}) for the element type that `dtype` names.
template <typename Body>
void ForType(DType dtype, Body body) {
  switch (dtype) {
    case DType::kF32:
      return body(float{});
    case DType::kF64:
      return body(double{});
    case DType::kBF16:
      return body(Bf16{});
    case DType::kI64:
      return body(uint64_t{});
    default:
      DTRAIN_CHECK(!"a summable type");
  }
}

// Every loop is over elements that do not depend on each other; arrays are the same one or do not overlap.
template <typename Body>
inline void ForEach(int64_t count, Body body) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) body(i);
}

template <typename T>
void SumTyped(std::span<const std::byte* const> operands, int64_t count, T* out) {
  using Tr = Traits<T>;
  const auto operand = [&](size_t index) { return As<T>(operands[index]); };
  switch (operands.size()) {
    case 1:
      if (static_cast<const void*>(out) != operands[0] && count > 0) std::memmove(out, operands[0], count * sizeof(T));
      return;
    case 2:
      return ForEach(count, [out, a = operand(0), b = operand(1)](int64_t i) { out[i] = Tr::Store(Tr::Load(a[i]) + Tr::Load(b[i])); });
    case 3:
      return ForEach(count, [out, a = operand(0), b = operand(1), c = operand(2)](int64_t i) {
        out[i] = Tr::Store(Tr::Load(a[i]) + Tr::Load(b[i]) + Tr::Load(c[i]));
      });
    case 4:
      return ForEach(count, [out, a = operand(0), b = operand(1), c = operand(2), d = operand(3)](int64_t i) {
        out[i] = Tr::Store(Tr::Load(a[i]) + Tr::Load(b[i]) + Tr::Load(c[i]) + Tr::Load(d[i]));
      });
    default:
      break;
  }
  alignas(64) typename Tr::Acc tile[kTileElements];
  for (int64_t begin = 0; begin < count; begin += kTileElements) {
    const int64_t elements = std::min(kTileElements, count - begin);
    const T* first = operand(0) + begin;
    ForEach(elements, [&](int64_t i) { tile[i] = Tr::Load(first[i]); });
    for (size_t index = 1; index < operands.size(); ++index) {
      const T* next = operand(index) + begin;
      ForEach(elements, [&](int64_t i) { tile[i] = tile[i] + Tr::Load(next[i]); });
    }
    ForEach(elements, [&](int64_t i) { out[begin + i] = Tr::Store(tile[i]); });
  }
}

}  // namespace

Bf16 RoundToBf16(float number) {
  const auto bits = std::bit_cast<uint32_t>(number);
  // A NaN keeps its upper bits and is made quiet, so that rounding cannot carry it to infinity.
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return {static_cast<uint16_t>(nan ? (bits >> 16 | 0x40) : rounded)};
}

Status CheckSummable(const ConstElements& elements) {
  switch (elements.dtype) {
    case DType::kF32:
    case DType::kF64:
    case DType::kBF16:
    case DType::kI64:
      break;
    default:
      return InvalidArgument("sum elements of type ", SafetensorsName(elements.dtype), "; expected F32, F64, BF16 or I64");
  }
  const auto size = static_cast<size_t>(ElementBytes(elements.dtype));
  if (elements.bytes.size() % size != 0 || reinterpret_cast<uintptr_t>(elements.bytes.data()) % size != 0) {
    return InvalidArgument("sum ", elements.bytes.size(), " bytes of type ", SafetensorsName(elements.dtype),
                           ": expected whole elements, aligned to ", size, " bytes");
  }
  return OkStatus();
}

ElementRange SliceOf(int64_t count, int rank, int ranks) {
  DTRAIN_CHECK(count >= 0 && rank >= 0 && rank < ranks);
  const int64_t each = count / ranks, more = count % ranks;
  const auto begin = [&](int64_t at) { return at * each + std::min<int64_t>(at, more); };
  return {begin(rank), begin(rank + 1)};
}

DType AccumulatorOf(DType dtype) { return dtype == DType::kBF16 ? DType::kF32 : dtype; }

void Widen(DType dtype, const std::byte* from, int64_t count, std::byte* acc) {
  if (count == 0) return;
  if (dtype != DType::kBF16) {
    std::memcpy(acc, from, count * ElementBytes(dtype));
    return;
  }
  ForEach(count, [in = As<Bf16>(from), out = As<float>(acc)](int64_t i) { out[i] = ToFloat(in[i]); });
}

void Narrow(DType dtype, const std::byte* acc, int64_t count, std::byte* out) {
  if (count == 0) return;
  if (dtype != DType::kBF16) {
    std::memcpy(out, acc, count * ElementBytes(dtype));
    return;
  }
  ForEach(count, [in = As<float>(acc), to = As<Bf16>(out)](int64_t i) { to[i] = RoundToBf16(in[i]); });
}

void AddTo(DType dtype, std::byte* acc, const std::byte* right, int64_t count) {
  ForType(dtype, [&](auto type) {
    using T = decltype(type);
    ForEach(count, [sum = As<typename Traits<T>::Acc>(acc), in = As<T>(right)](int64_t i) { sum[i] = sum[i] + Traits<T>::Load(in[i]); });
  });
}

void AddPartials(DType dtype, const std::byte* left, std::byte* right, int64_t count) {
  ForType(dtype, [&](auto type) {
    using Acc = typename Traits<decltype(type)>::Acc;
    ForEach(count, [a = As<Acc>(left), b = As<Acc>(right)](int64_t i) { b[i] = a[i] + b[i]; });
  });
}

void FinishSum(DType dtype, const std::byte* acc, const std::byte* right, int64_t count, std::byte* out) {
  ForType(dtype, [&](auto type) {
    using T = decltype(type);
    ForEach(count, [sum = As<typename Traits<T>::Acc>(acc), in = As<T>(right), to = As<T>(out)](int64_t i) {
      to[i] = Traits<T>::Store(sum[i] + Traits<T>::Load(in[i]));
    });
  });
}

void SumInOrder(DType dtype, std::span<const std::byte* const> operands, int64_t count, std::byte* out) {
  DTRAIN_CHECK(!operands.empty());
  ForType(dtype, [&](auto type) { SumTyped<decltype(type)>(operands, count, As<decltype(type)>(out)); });
}

}  // namespace dtrain
