// The checkpoints of one run directory: complete or absent, never torn. After a crash or power cut at any moment the
// newest complete one loads. Layout, write protocol and why it holds: docs/checkpoint_format.md.
// One process writes a run directory (trainer/storage/directory_lock.h) and one thread of it a store; reading is free.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/storage.h"
#include "base/tensor_view.h"
#include "base/value.h"
#include "base/view.h"

namespace dtrain {

// What a run goes on from. Tensors are whole, whatever the number of ranks.
struct Checkpoint {
  Step step = 0;  // the step that comes next
  std::vector<HostTensor> model, optimizer;
  std::map<std::string, std::string> model_metadata;  // e.g. aliases of shared tensors
  // What becomes state.json: a map. The store adds and takes out again its own two keys, format_version and step. Metrics
  // that retention may look at lie under "metrics". JSON has no NaN: such a number reads back as null.
  Value state = Value::Map();
};

// Which checkpoints stay after a Save: the newest `keep_last`, and the `keep_best` best by state.metrics[metric]. The one
// just saved always stays.
struct RetentionPolicy {
  int keep_last = 2;
  int keep_best = 0;
  std::string metric;  // "valid_accuracy"; one without it is never among the best
  bool metric_is_better_when_larger = true;
};

struct CheckpointInfo {
  Step step = 0;
  std::string path;
  std::string damage;            // why it is not complete; empty if it is
  std::optional<double> metric;  // the policy's
  uint64_t bytes = 0;            // of all files that its manifest lists

  bool complete() const { return damage.empty(); }
};

class CheckpointStore {
 public:
  // Touches nothing yet. `storage` outlives the store; `run_directory` is made by the first Save.
  CheckpointStore(Storage& storage, std::string run_directory, RetentionPolicy retention);

  // Once this returns OK the checkpoint survives a power cut, LATEST names it, and what the policy does not keep is gone.
  // One of the same step is replaced; until that is done the old one loads. First clears away what a crash left behind.
  // kResourceExhausted: the disk is full; kInvalidArgument: what could never be loaded again (a tensor name twice). After
  // an error the checkpoints from before are still there, and the next Save starts afresh.
  Status Save(const Checkpoint& checkpoint);

  // All checkpoints, ascending by step; empty if there is none. Looks at manifests and sizes, not at every byte.
  StatusOr<std::vector<CheckpointInfo>> List() const;

  // Every byte is checked against the manifest first. kNotFound if there is none of that step; kDataLoss says what is
  // damaged and hints at the newest complete one; kFailedPrecondition if a newer dtrain wrote it.
  StatusOr<Checkpoint> Load(Step step) const;

  // The newest that holds; each damaged one passed over is logged as a warning. Nothing if there is no checkpoint.
  // kDataLoss if there are some and all are damaged. Any other error (no permission, a newer format) is returned rather
  // than passed over: an older checkpoint would silently undo work that is there.
  StatusOr<std::optional<Checkpoint>> LoadNewest() const;

  // A checkpoint directory anywhere (--init-from). Errors as Load.
  StatusOr<Checkpoint> LoadPath(const std::string& path) const;

 private:
  std::string PathOf(std::string_view name) const;
  // Step -> path, of all checkpoint directories.
  StatusOr<std::map<Step, std::string>> Directories() const;
  CheckpointInfo Inspect(Step step, const std::string& path) const;
  Status MakeDirectories();
  Status ClearLeftovers();
  Status WriteDirectory(const Checkpoint& checkpoint, const std::string& path);
  Status PutInPlace(Step step);
  Status MoveLatest(Step step);
  Status Retain(Step just_saved);
  std::string NewestCompleteHint(const std::string& except_path) const;

  Storage& storage_;
  const std::string run_directory_;
  const std::string directory_;  // the checkpoints in it
  const RetentionPolicy retention_;
  bool directories_made_ = false;
};

// The complete ones that have the metric, best first; of equals the newer first.
std::vector<CheckpointInfo> BestFirst(std::vector<CheckpointInfo> checkpoints, const RetentionPolicy& policy);

// "step-000500"; more digits where needed.
std::string CheckpointName(Step step);

}  // namespace dtrain
