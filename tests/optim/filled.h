// Numbers for the tests of optim/, the same on every machine.
#pragma once
#include <cstdint>
#include <vector>

#include "base/rng.h"

namespace dtrain {

// `count` standard normals times `scale` from the stream of `seed`.
template <typename T>
std::vector<T> Normals(uint64_t seed, int64_t count, double scale = 1) {
  Rng rng(seed, RngPurpose::kSynthetic);
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(scale * rng.Normal());
  return values;
}

}  // namespace dtrain
