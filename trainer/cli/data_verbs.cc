// Verbs about data and checkpoints: inspect and export.
#include <filesystem>

#include "datasets/describe.h"
#include "datasets/open_dataset.h"
#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/cli/cli.h"
#include "trainer/configured_data.h"
#include "trainer/parameter_hash.h"
#include "trainer/start_state.h"
#include "trainer/storage/posix_storage.h"

namespace dtrain {
namespace {

StatusOr<ExitCode> InspectData(const Arguments& arguments, const VerbSpec& spec) {
  ASSIGN_OR_RETURN(const Config config, ConfigOf(arguments, spec, 1));
  ASSIGN_OR_RETURN(const DatasetPair data, OpenConfiguredData(config.values));
  ASSIGN_OR_RETURN(const DatasetDescription description, Describe(data));
  Print(arguments.json() ? ToValue(description).ToJson() + "\n" : ToText(description));
  return ExitCode::kDone;
}

StatusOr<ExitCode> InspectCheckpoint(const Arguments& arguments, const VerbSpec& spec) {
  if (arguments.words().size() != 2) return UsageError(spec, "expected inspect checkpoint PATH");
  std::string path = arguments.words()[1];
  std::error_code error;
  if (!std::filesystem::exists(path + "/manifest.json", error)) {
    ASSIGN_OR_RETURN(const std::string run, RunOf(arguments, spec, 1));
    ASSIGN_OR_RETURN(path, CheckpointOf(run, arguments.Get("checkpoint")));
  }
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, CheckpointStore(PosixStorage(), path, {}).LoadPath(path));
  Value value = Value::Map();
  value.Set("path", path);
  value.Set("step", checkpoint.step);
  value.Set("parameter_hash", ParameterHash(checkpoint.model));
  if (arguments.json()) {
    value.Set("state", checkpoint.state);
    for (const auto& [part, tensors] : {std::pair("model", &checkpoint.model), std::pair("optimizer", &checkpoint.optimizer)}) {
      Value::List list;
      for (const HostTensor& tensor : *tensors) list.push_back(Value::List{tensor.info.name, TypeAndShapeText(tensor.info)});
      value.Set(part, list);
    }
    Print(value.ToJson() + "\n");
    return ExitCode::kDone;
  }
  Print(Cat(path, "\n  step ", checkpoint.step, ", every byte agrees with its manifest\n  parameter hash ", ParameterHash(checkpoint.model),
            "\n"));
  for (const auto& [part, tensors] : {std::pair("model", &checkpoint.model), std::pair("optimizer", &checkpoint.optimizer)}) {
    Print(Cat(part, ": ", tensors->size(), " tensors\n"));
    for (const HostTensor& tensor : *tensors) Print(Cat("  ", tensor.info.name, "  ", TypeAndShapeText(tensor.info), "\n"));
  }
  if (checkpoint.state.At("metrics").if_map() != nullptr) Print(Cat("metrics: ", checkpoint.state.At("metrics").ToJson(), "\n"));
  return ExitCode::kDone;
}

}  // namespace

StatusOr<ExitCode> InspectVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram& rank_program) {
  const std::string what = arguments.words().empty() ? "" : arguments.words()[0];
  if (what == "data") return InspectData(arguments, spec);
  if (what == "checkpoint") return InspectCheckpoint(arguments, spec);
  if (what == "model") return HandOver(rank_program);
  return UsageError(spec, Cat("found '", what, "', expected data, model or checkpoint"));
}

StatusOr<ExitCode> ExportVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram&) {
  ASSIGN_OR_RETURN(const std::string run, RunOf(arguments, spec, 0));
  const std::string to = arguments.Get("output");
  if (to.empty()) return UsageError(spec, "--output is missing");
  ASSIGN_OR_RETURN(const std::string from, CheckpointOf(run, arguments.Get("checkpoint")));
  auto names = ParseNameMap(arguments.Get("names"));
  if (!names.ok()) return WithExitCode(names.status(), ExitCode::kUsage);
  ASSIGN_OR_RETURN(const auto tensors, LoadInitialTensors(PosixStorage(), from, *names));
  std::vector<TensorView> views;
  double bytes = 0;
  for (const HostTensor& tensor : tensors) {
    views.push_back(tensor.view());
    bytes += static_cast<double>(tensor.bytes.size());
  }
  // Beside its place first, so that a full disk leaves no half of a file under the name.
  const std::string unfinished = to + ".tmp";
  ASSIGN_OR_RETURN(const auto file, PosixStorage().Create(unfinished));
  RETURN_IF_ERROR(WriteSafetensors(*file, views, {{"format", "pt"}, {"source", from}}));
  RETURN_IF_ERROR(file->Sync());
  RETURN_IF_ERROR(file->Close());
  RETURN_IF_ERROR(PosixStorage().Rename(unfinished, to));
  if (arguments.json()) {
    Value value = Value::Map();
    value.Set("path", to);
    value.Set("from", from);
    value.Set("tensors", static_cast<int64_t>(tensors.size()));
    Print(value.ToJson() + "\n");
  } else if (!arguments.quiet()) {
    Print(Cat("wrote ", to, ": ", tensors.size(), " tensors, ", HumanBytes(bytes), ", from ", from, "\n",
              "In Python: safetensors.torch.load_file('", to, "')\n"));
  }
  return ExitCode::kDone;
}

}  // namespace dtrain
