// Which exchange a job uses, and making it: strategy.type and strategy.backend against where its ranks are. Torch-free.
#pragma once
#include <memory>
#include <string>

#include "trainer/exchange.h"
#include "trainer/host_group.h"
#include "trainer/job_channel.h"
#include "trainer/training_job.h"

namespace dtrain {

struct ChosenExchange {
  std::unique_ptr<GradientExchange> exchange;
  std::string description;  // "shared memory, 2 ranks"
};

// Collective over the ranks of `channel`, which are on `hosts`; of `job` its configuration, segment and communicator.
// Errors carry kConfiguration for what the configuration asks for in vain, kSetUp for what could not be set up.
StatusOr<ChosenExchange> MakeExchange(const TrainingJob& job, const ExchangeOptions& options, JobChannel& channel, const HostGroup& hosts,
                                      const FlatLayout& layout, const FlatLayout& buffer_layout, Deadline deadline);

}  // namespace dtrain
