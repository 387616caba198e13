#include "trainer/configured_data.h"

namespace dtrain {

StatusOr<DatasetPair> OpenConfiguredData(const Value& config) {
  Value data = config.At("data");
  data.Set("seed", config.At("run.seed"));
  auto pair = OpenDataset(data);
  if (pair.ok()) return pair;
  // What a CSV reader finds wrong is a fault of the file, though its kind is the same as that of a wrong setting.
  const bool is_setting = pair.status().code() == StatusCode::kInvalidArgument && config.String("data.dataset", "") != "csv";
  return WithExitCode(pair.status(), ExitCodeOf(pair.status(), is_setting ? ExitCode::kConfiguration : ExitCode::kSetUp));
}

}  // namespace dtrain
