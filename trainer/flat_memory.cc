#include "trainer/flat_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace dtrain {

StatusOr<FlatMemory> FlatMemory::Make(const std::vector<int64_t>& elements_of_parts) {
  constexpr int64_t kPageBytes = 4096;
  std::vector<int64_t> offsets;
  int64_t bytes = 0;
  for (const int64_t elements : elements_of_parts) {
    offsets.push_back(bytes);
    bytes += (elements * static_cast<int64_t>(sizeof(float)) + kPageBytes - 1) / kPageBytes * kPageBytes;
  }
  FlatMemory memory;
  memory.bytes_ = static_cast<size_t>(std::max<int64_t>(bytes, kPageBytes));
  memory.base_ = mmap(nullptr, memory.bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory.base_ == MAP_FAILED) {
    memory.base_ = nullptr;
    return WithHint(ResourceExhausted("allocate ", HumanBytes(static_cast<double>(bytes)),
                                      " for parameters, gradients and optimizer state: ", std::strerror(errno)),
                    "use a smaller model or an optimizer with less state");
  }
  constexpr size_t kHugePageBytes = 2 << 20;
  if (memory.bytes_ >= kHugePageBytes) madvise(memory.base_, memory.bytes_, MADV_HUGEPAGE);  // a hint; may be refused
  for (size_t i = 0; i < offsets.size(); ++i) {
    auto* first = reinterpret_cast<float*>(static_cast<std::byte*>(memory.base_) + offsets[i]);
    memory.parts_.emplace_back(first, static_cast<size_t>(elements_of_parts[i]));
  }
  return memory;
}

FlatMemory::FlatMemory(FlatMemory&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), bytes_(other.bytes_), parts_(std::move(other.parts_)) {}

FlatMemory::~FlatMemory() {
  if (base_ != nullptr) munmap(base_, bytes_);
}

}  // namespace dtrain
