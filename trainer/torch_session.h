// What training, evaluation and prediction start from: the data, the model and the loss that a configuration names.
#pragma once
#include <torch/types.h>

#include <memory>
#include <vector>

#include "base/value.h"
#include "datasets/batch.h"
#include "datasets/open_dataset.h"
#include "models/model.h"
#include "trainer/configured_data.h"
#include "trainer/evaluation.h"
#include "trainer/torch_loss.h"

namespace dtrain {

struct Session {
  DatasetPair data;
  Loss loss;
  std::shared_ptr<Model> model;  // with its initial values, which depend on run.seed alone
};

// Sets the process's threads and seed too. Errors carry their exit code: kSetUp for data and devices, kConfiguration for
// settings that do not fit the data.
StatusOr<Session> OpenSession(const Value& config, int threads);

// Tensors over the batch's memory, without a copy: valid as long as the batch stays as it is.
torch::Tensor InputsOf(const Batch& batch);
torch::Tensor TargetsOf(const Batch& batch);

// Seeds the generator that dropout and its like draw from.
void SeedTorch(uint64_t seed);

// Evaluates batches [first, end) of the set's batches of `batch_size` samples, in the set's order. `model` is switched to
// evaluation and back. Calls `tick` after each batch; an error of it ends the evaluation.
StatusOr<EvaluationTotals> Evaluate(Model& model, const Loss& loss, std::shared_ptr<const Dataset> dataset, int64_t batch_size,
                                    int64_t first, int64_t end, const std::function<Status()>& tick);
int64_t BatchesOf(const Dataset& dataset, int64_t batch_size);

}  // namespace dtrain
