// What the launcher tells every rank about the training that they share.
#pragma once
#include <map>
#include <string>

#include "base/status.h"
#include "base/value.h"

namespace dtrain {

struct TrainingJob {
  Value config;  // resolved
  std::string config_hash;
  std::string run_directory;
  bool fresh = false;     // do not go on from a checkpoint of the run directory
  bool dry_run = false;   // everything but a step
  std::string init_from;  // start_state.h; empty: the model's own initial values
  std::map<std::string, std::string> init_names;
  int segment_fd = -1;  // shared memory of the ranks, where there are several; not part of what is told

  Value ToValue() const;
  static StatusOr<TrainingJob> FromValue(const Value& value);
};

}  // namespace dtrain
