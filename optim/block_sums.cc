#include "optim/block_sums.h"

#include <bit>
#include <cstdint>

#include "base/check.h"
#include "base/flat_layout.h"
#include "optim/vector_loop.h"

namespace dtrain {

double BlockSquareSum(std::span<const float> block) {
  DTRAIN_CHECK(static_cast<int64_t>(block.size()) <= kBlockElements);
  constexpr int64_t kLanes = 16;
  double lanes[kLanes];
  Vectorized([out = lanes, values = block.data(), count = static_cast<int64_t>(block.size())] {
    double sums[kLanes] = {};
    const int64_t whole = count / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const double value = values[i + lane];
        sums[lane] += value * value;
      }
    }
    for (int64_t lane = 0; lane < count - whole; ++lane) {
      const double value = values[whole + lane];
      sums[lane] += value * value;
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) out[lane] = sums[lane];
  });
  for (int64_t half = kLanes / 2; half >= 1; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

bool AllFinite(std::span<const float> values) {
  // An exponent of all ones, and no other, carries into the sign bit when one is added to it.
  uint32_t carried = 0;
  Vectorized([out = &carried, first = values.data(), count = static_cast<int64_t>(values.size())] {
    uint32_t any = 0;
    for (int64_t i = 0; i < count; ++i) any |= (std::bit_cast<uint32_t>(first[i]) & 0x7f800000u) + 0x00800000u;
    *out = any;
  });
  return (carried & 0x80000000u) == 0;
}

}  // namespace dtrain
