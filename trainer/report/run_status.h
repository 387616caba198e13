// What can be said of runs from their files alone: for `dtrain runs`, and for `dtrain status` when no job runs. Run
// directories may be half-written, damaged or not ours; none of that is an error of the listing. Only reads.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/storage.h"
#include "base/value.h"
#include "trainer/report/layout.h"
#include "trainer/report/run_directory.h"

namespace dtrain {

// Whether a job runs in a run directory now; the caller knows how to tell (lock, processes).
using IsRunning = std::function<bool(const RunDirectory& directory)>;

// A map with the keys of Recorder::StatusAnswer, so that a run looks the same while it runs and afterwards:
//   name, directory, status (running | done | stopped | failed | diverged | interrupted | damaged), damage (text or null),
//   step, total_steps, epoch, loss, learning_rate, samples_per_s, elapsed_s, eta_s (numbers or null), phases, metrics,
//   checkpoints [{step, path, bytes, damage}], checkpoint (path of the newest whole one, or null), parameter_hash,
//   error, at (seconds since 1970 of the last news, or null)
// interrupted: it ended without a result, as by kill -9 or a power cut.
// kNotFound if `directory` is no run directory.
StatusOr<Value> StatusOfRun(Storage& storage, const RunDirectory& directory, bool running);

// The same for each run directory in `runs`, by name; other folders and files are passed over. Empty if `runs` is absent.
StatusOr<std::vector<Value>> ListRuns(Storage& storage, const std::string& runs, const IsRunning& is_running);

// [{step, path, bytes, damage (text or null)}], ascending by step; empty if they cannot be listed.
Value::List CheckpointsOf(Storage& storage, const RunDirectory& directory);

// For people. `now` in seconds since 1970; times are the local time zone's.
std::string RenderStatus(const Value& status, double now, const TextStyle& style);
std::string RenderRuns(const std::vector<Value>& runs, double now, const TextStyle& style);

// The metric that stands for a run: valid_accuracy, else valid_loss, else the first. "accuracy 0.9722"; empty if none.
std::string HeadlineMetric(const Value::Map& metrics);

}  // namespace dtrain
