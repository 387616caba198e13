#include "trainer/torch_session.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>

#include <mutex>

#include "base/rng.h"
#include "datasets/loader.h"
#include "trainer/torch_flat_model.h"

namespace dtrain {
namespace {

torch::Tensor Over(const TensorInfo& info, const std::byte* data) {
  // A batch is only read; from_blob has no form for memory that is const.
  return at::from_blob(const_cast<std::byte*>(data), info.shape, ToTorch(info.dtype));
}

Status WithSetUpCode(const Status& status) { return WithExitCode(status, ExitCode::kSetUp); }

}  // namespace

torch::Tensor InputsOf(const Batch& batch) { return Over(batch.input_info(), batch.input_data()); }
torch::Tensor TargetsOf(const Batch& batch) { return Over(batch.target_info(), batch.target_data()); }

void SeedTorch(uint64_t seed) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  generator.set_current_seed(seed);
}

StatusOr<Session> OpenSession(const Value& config, int threads) {
  if (config.String("train.device", "auto") == "cuda") {
    return WithSetUpCode(
        WithHint(NotFound("train.device: cuda, but this machine has no usable GPU (this build of dtrain computes on the CPU)"),
                 "set train.device to auto or cpu"));
  }
  at::set_num_threads(threads);
  ASSIGN_OR_RETURN(DatasetPair data, OpenConfiguredData(config));
  const DatasetSchema& schema = data.train->schema();
  auto loss = Loss::Make(config.String("train.loss", "auto"), schema, config.Doubles("train.class_weights"));
  if (!loss.ok()) return WithExitCode(loss.status(), ExitCode::kConfiguration);
  SeedTorch(DeriveSeed(static_cast<uint64_t>(config.Int("run.seed", 0)), RngPurpose::kInitialise));
  auto model = MakeModel(config.String("model.type", ""), {schema.input_shape, loss->outputs(), config.At("model")});
  if (!model.ok()) return WithExitCode(model.status(), ExitCode::kConfiguration);
  return Session{std::move(data), *std::move(loss), *std::move(model)};
}

int64_t BatchesOf(const Dataset& dataset, int64_t batch_size) { return (dataset.size() + batch_size - 1) / batch_size; }

StatusOr<EvaluationTotals> Evaluate(Model& model, const Loss& loss, std::shared_ptr<const Dataset> dataset, int64_t batch_size,
                                    int64_t first, int64_t end, const std::function<Status()>& tick) {
  EvaluationTotals totals;
  if (first >= end) return totals;
  const int64_t size = dataset->size();
  ASSIGN_OR_RETURN(
      const Sampler sampler,
      Sampler::Make(
          {.dataset_size = size, .kind = SamplerKind::kSequential, .global_batch = batch_size, .remainder = Remainder::kPartial}));
  ASSIGN_OR_RETURN(const auto loader, Loader::Make(std::move(dataset), sampler, {.threads = 1, .prefetch_batches = 4}));
  loader->Start(first, 0, 1, end);
  const bool was_training = model.is_training();
  model.eval();
  const at::NoGradGuard no_grad;
  Status status;
  for (int64_t batch_number = first; batch_number < end && status.ok(); ++batch_number) {
    const auto batch = loader->Next(Deadline::In(std::chrono::minutes(10)));
    status = batch.status();
    if (!status.ok()) break;
    const EvaluationCounts counts = loss.Count(model.forward(InputsOf(**batch)), TargetsOf(**batch));
    totals.loss.Add(counts.loss_sum);
    totals.weight.Add(counts.weight);
    totals.correct += counts.correct;
    totals.samples += counts.samples;
    status = tick();
  }
  model.train(was_training);
  RETURN_IF_ERROR(status);
  return totals;
}

}  // namespace dtrain
