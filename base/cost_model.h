// What communication costs: a start-up time and a bandwidth, fitted to measurements, and what a ring of another size would then
// take. The alpha-beta model (Hockney, Parallel Computing 20, 1994) with the ring's steps and bytes (Patarasuk and Yuan,
// JPDC 2009). Pure functions.
#pragma once
#include <cstdint>
#include <span>

namespace dtrain {

struct Measurement {
  double bytes = 0, seconds = 0;
};

// seconds(bytes) = start_s + bytes / bytes_per_s
struct LinearCost {
  double start_s = 0;
  double bytes_per_s = 0;  // 0: nothing is known

  double Seconds(double bytes) const { return start_s + (bytes_per_s > 0 ? bytes / bytes_per_s : 0); }
};

// Least squares of the relative error, so that small messages count as much as large ones; neither term is negative. Fewer than
// two different sizes give no cost.
LinearCost FitCost(std::span<const Measurement> measurements);

// What an all-reduce among `ranks` ranks takes if one among `measured_ranks` takes `cost`: a ring has 2 (N - 1) steps, and each
// rank sends 2 (N - 1) / N of the bytes. Both at least 2.
LinearCost ForRanks(const LinearCost& cost, int measured_ranks, int ranks);

// A step that computes for `compute_s`, of which backward is the later part of `backward_share`, beside an exchange of
// `exchange_s` that may start with backward: what the step takes. The first bucket is ready after 1 / buckets of backward.
double StepSeconds(double compute_s, double backward_share, double exchange_s, int64_t buckets, bool overlap);

}  // namespace dtrain
