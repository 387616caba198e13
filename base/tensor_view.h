// A tensor as every library of dtrain sees it: name, element type, shape, bytes. No torch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain {

enum class DType : uint8_t { kF32 = 0, kF64 = 1, kBF16 = 2, kF16 = 3, kI64 = 4, kI32 = 5, kU8 = 6, kBool = 7 };

int64_t ElementBytes(DType dtype);
// The name in a safetensors header: "F32", "F64", "BF16", "F16", "I64", "I32", "U8", "BOOL".
std::string_view SafetensorsName(DType dtype);

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t elements() const;  // 1 for a scalar
  int64_t bytes() const { return elements() * ElementBytes(dtype); }
  bool operator==(const TensorInfo&) const = default;
};

std::string ShapeText(std::span<const int64_t> shape);  // "(3, 224, 224)"
std::string TypeAndShapeText(const TensorInfo& info);   // "F32 (3, 224, 224)"

// A tensor whose bytes lie somewhere else, dense and in row-major order.
struct TensorView {
  TensorInfo info;
  std::span<const std::byte> bytes;
};

// A tensor that owns its bytes.
struct HostTensor {
  TensorInfo info;
  std::vector<std::byte> bytes;

  TensorView view() const { return {info, bytes}; }
};

}  // namespace dtrain
