#include "datasets/split.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/rng.h"

namespace dtrain {

StatusOr<SplitRows> SplitByFraction(int64_t size, double fraction, uint64_t seed) {
  if (!(fraction > 0 && fraction < 1))
    return InvalidArgument("data.valid: found ", fraction, ", expected \"test\" or a fraction between 0 and 1");
  const auto valid_rows = static_cast<int64_t>(std::llround(fraction * static_cast<double>(size)));
  if (valid_rows < 1 || valid_rows >= size) {
    return InvalidArgument("data.valid: ", fraction, " of ", WithCommas(size), " samples leaves ", WithCommas(valid_rows),
                           " to validate and ", WithCommas(size - valid_rows), " to train, expected at least one of each");
  }
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  Rng rng(seed, RngPurpose::kSplit);
  for (int64_t i = 0; i < valid_rows; ++i) std::swap(order[i], order[i + static_cast<int64_t>(rng.Below(static_cast<uint64_t>(size - i)))]);
  std::sort(order.begin(), order.begin() + valid_rows);
  std::sort(order.begin() + valid_rows, order.end());
  return SplitRows{.train = {order.begin() + valid_rows, order.end()}, .valid = {order.begin(), order.begin() + valid_rows}};
}

}  // namespace dtrain
