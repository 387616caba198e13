#include "base/cost_model.h"

#include <algorithm>

#include "base/check.h"

namespace dtrain {

LinearCost FitCost(std::span<const Measurement> measurements) {
  // With weights 1 / seconds^2 the sum of ((a + b x - t) / t)^2 is minimal where the normal equations hold.
  double w = 0, wx = 0, wxx = 0, wt = 0, wxt = 0;
  double least = 0, most = 0;
  bool first = true;
  for (const Measurement& m : measurements) {
    if (!(m.seconds > 0) || !(m.bytes > 0)) continue;
    const double weight = 1 / (m.seconds * m.seconds);
    w += weight, wx += weight * m.bytes, wxx += weight * m.bytes * m.bytes;
    wt += weight * m.seconds, wxt += weight * m.bytes * m.seconds;
    least = first ? m.bytes : std::min(least, m.bytes);
    most = first ? m.bytes : std::max(most, m.bytes);
    first = false;
  }
  if (first || least == most) return {};
  const double determinant = w * wxx - wx * wx;
  double start = (wt * wxx - wxt * wx) / determinant, per_byte = (w * wxt - wx * wt) / determinant;
  if (start < 0) start = 0, per_byte = wxt / wxx;
  if (per_byte <= 0) return {.start_s = wt / w};
  return {.start_s = start, .bytes_per_s = 1 / per_byte};
}

LinearCost ForRanks(const LinearCost& cost, int measured_ranks, int ranks) {
  DTRAIN_CHECK(measured_ranks >= 2 && ranks >= 2);
  const double n = measured_ranks, m = ranks;
  return {.start_s = cost.start_s * (m - 1) / (n - 1), .bytes_per_s = cost.bytes_per_s * ((n - 1) / n) / ((m - 1) / m)};
}

double StepSeconds(double compute_s, double backward_share, double exchange_s, int64_t buckets, bool overlap) {
  if (!overlap) return compute_s + exchange_s;
  const double backward_s = compute_s * backward_share;
  const double starts_s = compute_s - backward_s + backward_s / static_cast<double>(std::max<int64_t>(buckets, 1));
  return std::max(compute_s + exchange_s / static_cast<double>(std::max<int64_t>(buckets, 1)), starts_s + exchange_s);
}

}  // namespace dtrain
