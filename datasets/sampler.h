// Which samples a leaf of a step computes. A pure function of (options, step, leaf): any rank can compute any leaf's
// samples, so a resumed run on another number of workers neither repeats nor skips one. No threads, files or time.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/view.h"

namespace dtrain {

enum class SamplerKind {
  kShuffled,     // one permutation of the whole set an epoch
  kSequential,   // the order of the set
  kIndependent,  // every leaf shuffles the whole set for itself: an epoch shows it samples more than once or not at all
};

// What becomes of an epoch's last batch where the batches do not come out even.
enum class Remainder {
  kPad,      // filled up from the beginning of the same order: every sample at least once
  kDrop,     // left out
  kPartial,  // short, some of its leaves even empty: every sample exactly once, for evaluation
};

// "shuffled", "sequential", "independent"; "pad", "drop", "partial". kInvalidArgument for another word.
StatusOr<SamplerKind> ParseSamplerKind(std::string_view name);
StatusOr<Remainder> ParseRemainder(std::string_view name);

struct SamplerOptions {
  uint64_t seed = 0;
  int64_t dataset_size = 0;
  SamplerKind kind = SamplerKind::kShuffled;
  int64_t global_batch = 64;  // B, samples of a step over all ranks
  int64_t leaves = 1;         // M, micro-batches of a step over all ranks
  Remainder remainder = Remainder::kPad;
};

// How far a run is. The number of a step says as much; this is for people and checkpoints.
struct Cursor {
  int64_t epoch = 0;
  int64_t step_in_epoch = 0;
  int64_t samples = 0;  // computed before this step, repeats counted

  bool operator==(const Cursor&) const = default;
};

// Keeps the permutation in use; for one thread at a time. A copy is a sampler of its own.
class Sampler {
 public:
  // kInvalidArgument names the option, what was found and what is allowed: sizes below 1, more leaves than samples in a
  // batch, a batch larger than the set (but for partial).
  static StatusOr<Sampler> Make(const SamplerOptions& options);

  const SamplerOptions& options() const { return options_; }
  int64_t steps_per_epoch() const { return steps_per_epoch_; }
  Cursor CursorAt(Step step) const;
  // The step at which a run goes on from a cursor that was saved. kFailedPrecondition if it is not one of this sampler's: the
  // set, the batch or the policy is another one.
  StatusOr<Step> Resume(const Cursor& saved) const;
  Step StepAt(const Cursor& cursor) const { return cursor.epoch * steps_per_epoch_ + cursor.step_in_epoch; }

  // The first position of leaf m in the epoch's order: t' B + floor(m B / M), t' the step inside the epoch.
  int64_t FirstPosition(Step step, int64_t leaf) const;
  // The samples of leaf m of step t: positions FirstPosition(t, m) up to that of leaf m + 1. `step` counts over the whole run,
  // 0 <= leaf < leaves. Fills `*indices`, whose memory is reused.
  void Indices(Step step, int64_t leaf, std::vector<int64_t>* indices);
  std::vector<int64_t> Indices(Step step, int64_t leaf);

  // "1,797 samples, batches of 64, 29 steps an epoch; the last batch repeats 59 samples (pad)"
  std::string Policy() const;

 private:
  explicit Sampler(const SamplerOptions& options);

  // A permutation and what it is of; epoch -1 is none.
  struct Order {
    int64_t epoch = -1;
    std::vector<int64_t> samples;
  };
  // The permutation of `epoch` (for independent: the leaf's epoch-th pass).
  const std::vector<int64_t>& OrderOf(int64_t epoch, int64_t leaf);

  SamplerOptions options_;
  int64_t steps_per_epoch_ = 0;
  std::vector<Order> orders_;  // one, or one a leaf for independent
};

}  // namespace dtrain
