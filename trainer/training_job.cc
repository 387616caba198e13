#include "trainer/training_job.h"

namespace dtrain {

Value TrainingJob::ToValue() const {
  Value value = Value::Map();
  value.Set("config", config);
  value.Set("config_hash", config_hash);
  value.Set("run_directory", run_directory);
  value.Set("fresh", fresh);
  value.Set("dry_run", dry_run);
  value.Set("finished", finished);
  value.Set("init_from", init_from);
  Value::List names;
  for (const auto& [from, to] : init_names) names.push_back(Value::List{from, to});
  value.Set("init_names", names);
  return value;
}

StatusOr<TrainingJob> TrainingJob::FromValue(const Value& value) {
  TrainingJob job;
  job.config = value.At("config");
  job.config_hash = value.String("config_hash", "");
  job.run_directory = value.String("run_directory", "");
  job.fresh = value.Bool("fresh", false);
  job.dry_run = value.Bool("dry_run", false);
  job.finished = value.Bool("finished", false);
  job.init_from = value.String("init_from", "");
  if (const auto* names = value.At("init_names").if_list()) {
    for (const Value& pair : *names) {
      const auto* both = pair.if_list();
      if (both == nullptr || both->size() != 2) return InvalidArgument("read the job: init_names has an entry that is no pair");
      job.init_names[(*both)[0].String("", "")] = (*both)[1].String("", "");
    }
  }
  if (job.config.if_map() == nullptr || job.run_directory.empty())
    return InvalidArgument("read the job: config or run_directory is missing");
  return job;
}

}  // namespace dtrain
