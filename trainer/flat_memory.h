// Zeroed memory for flat buffers: straight from the kernel, page-aligned, on huge pages where the kernel has them.
// Pages that are never touched cost nothing.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace dtrain {

class FlatMemory {
 public:
  // One part for each count of floats. kResourceExhausted says how much was asked for.
  static StatusOr<FlatMemory> Make(const std::vector<int64_t>& elements_of_parts);
  FlatMemory(FlatMemory&& other) noexcept;
  FlatMemory& operator=(FlatMemory&&) = delete;
  ~FlatMemory();

  std::span<float> part(int index) const { return parts_[index]; }

 private:
  FlatMemory() = default;
  void* base_ = nullptr;
  size_t bytes_ = 0;
  std::vector<std::span<float>> parts_;
};

}  // namespace dtrain
