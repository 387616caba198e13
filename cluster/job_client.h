// Asks the job that runs in a run directory, from another process of the same user: `dtrain status`, `save`, `stop`.
#pragma once
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"

namespace dtrain {

// The answer to "save" (a checkpoint is asked for), "stop" (a checkpoint and then the end are asked for), or whatever
// the launcher's on_query understands ("status"). kFailedPrecondition if no job runs there; kInvalidArgument with the
// launcher's words if it does not know the query.
StatusOr<std::string> AskJob(const std::string& run_directory, std::string_view query, Deadline deadline);

}  // namespace dtrain
