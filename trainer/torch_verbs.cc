#include "trainer/torch_verbs.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "cluster/thread_budget.h"
#include "datasets/loader.h"
#include "trainer/cli/cli.h"
#include "trainer/job_plan.h"
#include "trainer/report/run_directory.h"
#include "trainer/report/tables.h"
#include "trainer/start_state.h"
#include "trainer/storage/posix_storage.h"
#include "trainer/torch_flat_model.h"
#include "trainer/torch_session.h"

namespace dtrain {
namespace {

struct LoadedRun {
  Config config;
  Session session;
  std::string checkpoint;
};

// The model of a run with the values of one of its checkpoints, and its data.
StatusOr<LoadedRun> LoadRun(const Arguments& arguments, const VerbSpec& spec) {
  ASSIGN_OR_RETURN(const std::string run, RunOf(arguments, spec, 0));
  auto config = LoadConfig(RunDirectory(run).resolved(), arguments.overrides());
  if (!config.ok()) return WithExitCode(config.status(), ExitCode::kConfiguration);
  ASSIGN_OR_RETURN(const std::string path, CheckpointOf(run, arguments.Get("checkpoint")));
  ASSIGN_OR_RETURN(auto tensors, LoadInitialTensors(PosixStorage(), path, {}));
  ASSIGN_OR_RETURN(Session session, OpenSession(config->values, ConfiguredThreads(config->values, UsableCores(), 1)));
  const Status loaded = LoadModelTensors(*session.model, tensors);
  if (!loaded.ok()) return WithExitCode(Annotate(loaded, path), ExitCode::kSetUp);
  session.model->eval();
  return LoadedRun{*std::move(config), std::move(session), path};
}

StatusOr<ExitCode> EvalVerb(const Arguments& arguments, const VerbSpec& spec) {
  ASSIGN_OR_RETURN(LoadedRun run, LoadRun(arguments, spec));
  const int64_t batch = run.config.values.Int("eval.batch", 256);
  ASSIGN_OR_RETURN(const EvaluationTotals totals, Evaluate(*run.session.model, run.session.loss, run.session.data.valid, batch, 0,
                                                           BatchesOf(*run.session.data.valid, batch), [] { return OkStatus(); }));
  const Value metrics = totals.Metrics("valid", run.session.loss.type() != LossType::kMse);
  if (arguments.json()) {
    Value value = Value::Map();
    value.Set("checkpoint", run.checkpoint);
    value.Set("samples", totals.samples);
    value.Set("metrics", metrics);
    Print(value.ToJson() + "\n");
  } else {
    Print(Cat(run.checkpoint, ": ", WithCommas(totals.samples), " samples: ", MetricsLine(*metrics.if_map()), "\n"));
  }
  return ExitCode::kDone;
}

// One line a sample.
std::string PredictionLines(const Batch& batch, const torch::Tensor& outputs, const Loss& loss, bool logits) {
  std::string lines;
  const torch::Tensor targets = TargetsOf(batch).to(torch::kFloat64), values = outputs.to(torch::kFloat64).contiguous();
  const torch::Tensor probabilities = loss.type() == LossType::kCrossEntropy ? at::softmax(values, 1)
                                      : loss.type() == LossType::kBinary     ? values.sigmoid()
                                                                             : values;
  for (int64_t row = 0; row < batch.size(); ++row) {
    lines += Cat(batch.indices[row]);
    const double target = targets[row].item<double>();
    const double* first = values.const_data_ptr<double>() + row * values.size(1);
    if (logits) {
      for (int64_t i = 0; i < values.size(1); ++i) lines += Cat(",", static_cast<float>(first[i]));
    } else if (loss.type() == LossType::kMse) {
      lines += Cat(",", first[0]);
    } else if (loss.type() == LossType::kBinary) {
      const double probability = probabilities[row][0].item<double>();
      lines += Cat(",", probability > 0.5 ? 1 : 0, ",", Fixed(probability, 6));
    } else {
      const auto best = std::max_element(first, first + values.size(1)) - first;
      lines += Cat(",", static_cast<int64_t>(best), ",", Fixed(probabilities[row][best].item<double>(), 6));
    }
    lines += Cat(",", target, "\n");
  }
  return lines;
}

StatusOr<ExitCode> PredictVerb(const Arguments& arguments, const VerbSpec& spec) {
  const std::string part = arguments.Get("part", "valid");
  if (part != "valid" && part != "train") return UsageError(spec, Cat("--part: found '", part, "', expected valid or train"));
  ASSIGN_OR_RETURN(LoadedRun run, LoadRun(arguments, spec));
  const auto dataset = part == "valid" ? run.session.data.valid : run.session.data.train;
  const int64_t batch_size = run.config.values.Int("eval.batch", 256);
  ASSIGN_OR_RETURN(const Sampler sampler, Sampler::Make({.dataset_size = dataset->size(),
                                                         .kind = SamplerKind::kSequential,
                                                         .global_batch = batch_size,
                                                         .remainder = Remainder::kPartial}));
  ASSIGN_OR_RETURN(const auto loader, Loader::Make(dataset, sampler, {}));
  const int64_t batches = BatchesOf(*dataset, batch_size);
  loader->Start(0, 0, 1, batches);
  const at::NoGradGuard no_grad;
  std::string text = arguments.Has("logits")                     ? "sample,outputs...,target\n"
                     : run.session.loss.type() == LossType::kMse ? "sample,prediction,target\n"
                                                                 : "sample,prediction,probability,target\n";
  for (int64_t i = 0; i < batches; ++i) {
    ASSIGN_OR_RETURN(const Batch* batch, loader->Next(Deadline::In(std::chrono::minutes(10))));
    text += PredictionLines(*batch, run.session.model->forward(InputsOf(*batch)), run.session.loss, arguments.Has("logits"));
  }
  if (!arguments.Has("output")) {
    Print(text);
    return ExitCode::kDone;
  }
  ASSIGN_OR_RETURN(const auto file, PosixStorage().Create(arguments.Get("output")));
  RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(std::as_const(text)))));
  RETURN_IF_ERROR(file->Close());
  if (!arguments.quiet())
    Print(Cat("wrote ", arguments.Get("output"), ": ", WithCommas(dataset->size()), " predictions of ", run.checkpoint, "\n"));
  return ExitCode::kDone;
}

StatusOr<ExitCode> InspectModelVerb(const Arguments& arguments, const VerbSpec& spec) {
  ASSIGN_OR_RETURN(const Config config, ConfigOf(arguments, spec, 1));
  ASSIGN_OR_RETURN(const Session session, OpenSession(config.values, 1));
  Value::List tensors;
  int64_t parameters = 0;
  std::string text = Cat("model ", config.values.String("model.type", ""), "\n");
  const auto add = [&](const char* kind, const std::string& name, const torch::Tensor& tensor) {
    const std::string shape = ShapeText(tensor.sizes().vec());
    text += Cat("  ", name, "  ", shape, "  ", WithCommas(tensor.numel()), kind, "\n");
    tensors.push_back(Value::List{name, shape, tensor.numel()});
  };
  for (const auto& item : session.model->named_parameters()) {
    add(item.value().requires_grad() ? "" : "  frozen", item.key(), item.value());
    parameters += item.value().numel();
  }
  for (const auto& item : session.model->named_buffers()) add("  buffer", item.key(), item.value());
  text += Cat(WithCommas(parameters), " parameters, ", HumanBytes(static_cast<double>(parameters) * 4), " in float32\n");
  if (arguments.json()) {
    Value value = Value::Map();
    value.Set("parameters", parameters);
    value.Set("tensors", tensors);
    Print(value.ToJson() + "\n");
  } else {
    Print(text);
  }
  return ExitCode::kDone;
}

}  // namespace

std::optional<int> TorchVerb(std::span<const std::string> words) {
  if (words.empty()) return std::nullopt;
  StatusOr<ExitCode> (*function)(const Arguments&, const VerbSpec&) = words[0] == "eval"      ? EvalVerb
                                                                      : words[0] == "predict" ? PredictVerb
                                                                      : words[0] == "inspect" && words.size() > 1 && words[1] == "model"
                                                                          ? InspectModelVerb
                                                                          : nullptr;
  if (function == nullptr) return std::nullopt;
  const auto verb = std::find_if(Verbs().begin(), Verbs().end(), [&](const Verb& entry) { return entry.spec.name == words[0]; });
  const auto arguments = Arguments::Parse(verb->spec, words.subspan(1));
  if (!arguments.ok()) return ReportError(arguments.status(), ExitCode::kUsage);
  if (arguments->Has("help")) return std::nullopt;
  try {
    const auto code = function(*arguments, verb->spec);
    std::fflush(stdout);
    return code.ok() ? static_cast<int>(*code) : ReportError(code.status(), ExitCode::kSetUp);
  } catch (const std::exception& error) {
    return ReportError(Internal("dtrain ", words[0], ": ", std::string(error.what())), ExitCode::kSetUp);
  }
}

}  // namespace dtrain
