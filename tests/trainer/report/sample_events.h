// The events of a run as rank 0 sends them, and helpers to read what was written.
#pragma once
#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/storage.h"
#include "base/text.h"
#include "base/value.h"
#include "tests/sim/sim_storage.h"
#include "trainer/report/layout.h"

namespace dtrain {

inline Value SampleStart() {
  Value start;
  start.Set("event", "start");
  start.Set("version", "0.1.0");
  start.Set("torch", "2.11.0");
  start.Set("host", "worker-7");
  start.Set("ranks", 2);
  start.Set("threads", 1);
  start.Set("cores", 2);
  start.Set("device", "cpu");
  start.Set("reproducible", false);
  start.Set("strategy", "shared memory, 2 ranks");
  start.Set("model.type", "mlp");
  start.Set("model.parameters", 101'770);
  start.Set("model.trainable", 101'770);
  start.Set("model.bytes", 407'080);
  start.Set("data.name", "digits");
  start.Set("data.note", "1,437 to train, 360 held out (20 % by seed), pixels divided by 16 and normalised");
  start.Set("data.policy", "shuffled, remainder padded with 3 samples an epoch");
  start.Set("batch", "64 global = 2 ranks x 32 per rank x 1 accumulation");
  start.Set("optimizer", "sgd lr 0.05, momentum 0.9; cosine schedule with 1ep of warm-up; gradient norm at most 1");
  start.Set("steps_per_epoch", 100);
  start.Set("total_steps", 1000);
  start.Set("seconds_max", Value());
  start.Set("resumed_from", Value());
  start.Set("memory.parameters", 407'080);
  start.Set("memory.gradients", 407'080);
  start.Set("memory.slots", 407'080);
  start.Set("memory.extra", 0);
  start.Set("run_directory", "runs/quickstart");
  return start;
}

// 25 steps a second; half of the time in forward and backward.
inline Value SampleProgress(int64_t step) {
  const double elapsed_s = static_cast<double>(step) / 25;
  Value progress;
  progress.Set("event", "progress");
  progress.Set("step", step);
  progress.Set("epoch", static_cast<double>(step) / 100);
  progress.Set("samples", step * 64);
  progress.Set("samples_per_s", 1600.0);
  progress.Set("loss", 2.3 / (1 + static_cast<double>(step) / 50));
  progress.Set("learning_rate", 0.05);
  progress.Set("gradient_norm", 0.75);
  progress.Set("phases.data", 0.05 * elapsed_s);
  progress.Set("phases.forward_backward", 0.5 * elapsed_s);
  progress.Set("phases.exchange", 0.25 * elapsed_s);
  progress.Set("phases.optimizer", 0.1 * elapsed_s);
  progress.Set("phases.evaluate", 0.08 * elapsed_s);
  progress.Set("phases.save", 0.02 * elapsed_s);
  progress.Set("phases.other", 0.001 * elapsed_s);
  progress.Set("elapsed_s", elapsed_s);
  return progress;
}

inline Value SampleEvaluation(int64_t step, double accuracy) {
  Value evaluation;
  evaluation.Set("event", "evaluation");
  evaluation.Set("step", step);
  evaluation.Set("epoch", static_cast<double>(step) / 100);
  evaluation.Set("metrics.valid_accuracy", accuracy);
  evaluation.Set("metrics.valid_loss", 0.125);
  evaluation.Set("seconds", 0.25);
  return evaluation;
}

inline Value SampleCheckpoint(int64_t step) {
  Value checkpoint;
  checkpoint.Set("event", "checkpoint");
  checkpoint.Set("step", step);
  checkpoint.Set("path", Cat("runs/quickstart/checkpoints/step-", std::string(step < 1000 ? "000" : "00"), step));
  checkpoint.Set("bytes", 815'000);
  checkpoint.Set("pause_s", 0.0021);
  checkpoint.Set("write_s", 0.04);
  return checkpoint;
}

inline Value SampleEnd(int64_t steps) {
  Value end;
  end.Set("event", "end");
  end.Set("steps", steps);
  end.Set("updates", steps);
  end.Set("samples", steps * 64);
  end.Set("train_s", static_cast<double>(steps) / 25);
  end.Set("samples_per_s", 1612.5);
  end.Set("phases", SampleProgress(steps).At("phases"));
  end.Set("metrics.valid_accuracy", 0.9722);
  end.Set("metrics.valid_loss", 0.125);
  end.Set("parameter_hash", std::string(64, 'a'));
  end.Set("checkpoints.last", "runs/quickstart/checkpoints/step-001000");
  end.Set("checkpoints.best", "runs/quickstart/checkpoints/step-000900");
  return end;
}

inline std::string TextOf(const SimStorage& storage, const std::string& path) {
  const auto bytes = storage.Contents(path);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// As if it had always been there. `path` is in a folder of the working directory, or in one of such a folder.
inline void PutText(SimStorage& storage, const std::string& path, std::string_view text) {
  DTRAIN_CHECK(storage.OpenAppend(path).ok());
  std::string folder = path.substr(0, path.rfind('/'));
  DTRAIN_CHECK(storage.SyncDirectory(folder).ok());
  while (folder.find('/') != std::string::npos) {
    folder.erase(folder.rfind('/'));
    DTRAIN_CHECK(storage.SyncDirectory(folder).ok());
  }
  DTRAIN_CHECK(storage.SyncDirectory(".").ok());
  const auto bytes = std::as_bytes(std::span(text));
  storage.SetContents(path, {bytes.begin(), bytes.end()});
}

inline size_t WidestLine(std::string_view text) {
  size_t widest = 0;
  for (const std::string& line : Split(text, '\n')) widest = std::max(widest, Columns(line));
  return widest;
}

}  // namespace dtrain
