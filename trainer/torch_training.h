// The training of one rank: from a configuration and a place to start from, step by step, to the end of the run.
#pragma once
#include "trainer/job_channel.h"
#include "trainer/training_job.h"

namespace dtrain {

// OK once the run is done; kCancelled with exit code kStopped if it was stopped. Every error carries its exit code.
Status RunTraining(const TrainingJob& job, JobChannel& channel);

}  // namespace dtrain
