// How the samples of one step are divided:
//
//   global = ranks x per rank x accumulation        "64 global = 2 ranks x 32 per rank x 1 accumulation"
//
// `per rank` is what a rank takes through the model at once, `accumulation` how often it does so in a step. Any two of
// global, per_rank and accumulation, with the number of ranks N, give the third.
//
// Not reproducible: the equation holds exactly, and a step has M = N x accumulation leaves of per_rank samples.
//   given                       what follows
//   nothing                     global 64, accumulation 1
//   global                      accumulation 1, per_rank = global / N
//   per_rank                    accumulation 1, global = N x per_rank
//   global, accumulation        per_rank = global / (N x accumulation)
//   global, per_rank            accumulation = global / (N x per_rank)
//   per_rank, accumulation      global = N x per_rank x accumulation
//   all three                   they must fit
//   accumulation alone          refused: it says nothing about how many samples a step has
// What does not come out whole is refused with the nearest values that do.
//
// Reproducible: the answer must not depend on N, so only `global` may be given (default 64), and it is cut into
// M = micro_batches leaves, M a power of two: leaf m is samples [m global / M, (m + 1) global / M), rounded down, so that
// sizes differ by one at most. A rank computes the leaves of its sub-tree (base/leaf_tree.h). Refused: N > M (a rank would
// own no leaf), global < M (a leaf would be empty).
//
// Pure functions; safe to call from any thread.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"
#include "base/value.h"

namespace dtrain {

inline constexpr int64_t kGlobalBatchDefault = 64;
inline constexpr int64_t kGlobalBatchMax = int64_t{1} << 31;

struct BatchRequest {
  bool reproducible = false;
  std::optional<int64_t> global, per_rank, accumulation;  // each >= 1
  int64_t micro_batches = 8;
};

struct BatchPlan {
  int64_t ranks = 1;
  int64_t global = 1;
  int64_t leaves = 1;        // M, over all ranks
  int64_t per_rank = 0;      // samples of a leaf; 0 in reproducible mode, where leaves may differ by one
  int64_t accumulation = 0;  // leaves of a rank in a step; 0 in reproducible mode, where ranks own sub-trees

  // Samples [leaf_begin(m), leaf_begin(m + 1)) of the step's global batch are leaf m.
  int64_t leaf_begin(int64_t leaf) const { return leaf * global / leaves; }
  // "64 global = 2 ranks x 32 per rank x 1 accumulation", "60 global = 8 leaves of 7 or 8 over 3 ranks".
  std::string ToString() const;
  bool operator==(const BatchPlan&) const = default;
};

// What can be said without knowing the number of ranks: contradictions of mode, micro_batches no power of two or more
// than the global batch. kInvalidArgument, "data.batch.KEY: found ..., expected ...".
Status CheckBatchRequest(const BatchRequest& request);

// The plan for `ranks` >= 1 ranks. kInvalidArgument (exit code kConfiguration) for what CheckBatchRequest refuses and for
// what does not fit the number of ranks, with the nearest values that do.
StatusOr<BatchPlan> PlanBatch(const BatchRequest& request, int64_t ranks);

// data.batch.* and run.reproducible of a checked configuration.
BatchRequest BatchRequestOf(const Value& configuration);

}  // namespace dtrain
