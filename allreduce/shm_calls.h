// What ranks that share memory come to a meeting for, in one word: the call, its root or element type, the bytes that are
// left. All must come for the same; a rank that lost step would else read another call's data without noticing.
// Inside shm_*.cc only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/tensor_view.h"

namespace dtrain::shm_internal {

inline constexpr int kRanksMax = 64;
inline constexpr int64_t kWindowBytes = 256 << 10;  // what a rank shows the others at one meeting

enum class Call : uint8_t {
  kBarrier,
  kBroadcast,
  kAllGather,
  kAllGatherParts,
  kAllToAll,
  kAllReduce,
  kReduceScatter,
  kAllReduceInRegions,
};

// `bytes` is below 2^48.
inline uint64_t Errand(Call call, uint8_t detail, size_t bytes) {
  return static_cast<uint64_t>(call) << 56 | static_cast<uint64_t>(detail) << 48 | bytes;
}
inline uint64_t Errand(Call call, DType dtype, size_t bytes) { return Errand(call, static_cast<uint8_t>(dtype), bytes); }

// "AllReduce of floats with 8 bytes to go".
std::string Describe(uint64_t errand);

}  // namespace dtrain::shm_internal
