#include "cluster/job.h"

#include "cluster/messages.h"

namespace dtrain {
namespace {

constexpr size_t kDescriptionBytesMax = 1 << 20;

}  // namespace

Status CheckJobOptions(const JobOptions& options) {
  if (options.ranks < 1 || options.ranks > kRanksMax) {
    return InvalidArgument("found ", options.ranks, " ranks, expected 1 to ", kRanksMax);
  }
  if (options.run_directory.empty()) return InvalidArgument("no run directory is given");
  if (options.job_description.size() > kDescriptionBytesMax) {
    return InvalidArgument("the job description has ", options.job_description.size(), " bytes, expected at most ", kDescriptionBytesMax);
  }
  if (options.deadline < std::chrono::milliseconds(1) || options.deadline > std::chrono::hours(24)) {
    return InvalidArgument("found a deadline of ", HumanSeconds(Seconds(options.deadline)), ", expected 1 ms to 24 h");
  }
  return OkStatus();
}

}  // namespace dtrain
