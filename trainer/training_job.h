// What the launcher tells every rank about the training that they share.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "allreduce/communicator.h"
#include "base/status.h"
#include "base/value.h"

namespace dtrain {

struct TrainingJob {
  Value config;  // resolved
  std::string config_hash;
  std::string run_directory;
  bool fresh = false;     // do not go on from a checkpoint of the run directory
  bool dry_run = false;   // everything but a step
  bool finished = false;  // there is nothing to do: the run is finished already
  std::string init_from;  // start_state.h; empty: the model's own initial values
  std::map<std::string, std::string> init_names;
  // Not part of what is told:
  std::vector<std::string> differences;  // what this rank was given that is not so in `config`
  // Of ranks that mpirun started: a communicator over the cluster's own MPI. Empty without.
  std::function<StatusOr<std::unique_ptr<Communicator>>(const std::function<Status()>& health, Deadline deadline)> mpi_communicator;
  int segment_fd = -1;  // shared memory of the ranks, where a launcher made it

  Value ToValue() const;
  static StatusOr<TrainingJob> FromValue(const Value& value);
};

}  // namespace dtrain
