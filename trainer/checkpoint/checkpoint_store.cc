#include "trainer/checkpoint/checkpoint_store.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "base/log.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/safetensors.h"

namespace dtrain {
namespace {

constexpr int64_t kStateVersion = 1;
constexpr std::string_view kFolder = "checkpoints";
constexpr std::string_view kModelFile = "model.safetensors";
constexpr std::string_view kOptimizerFile = "optimizer.safetensors";
constexpr std::string_view kStateFile = "state.json";
constexpr std::string_view kLatestFile = "LATEST";
constexpr std::string_view kUnfinished = ".tmp";  // being written, or being removed
constexpr std::string_view kReplaced = ".old";    // moved aside while one of the same step takes its place

// The step that a directory's name (without suffix) stands for.
std::optional<Step> StepOf(std::string_view name) {
  if (!name.starts_with("step-")) return std::nullopt;
  const auto step = ParseInt(name.substr(5));
  if (!step || *step < 0 || CheckpointName(*step) != name) return std::nullopt;
  return step;
}

// "/a/b" -> "/a", "a" -> ".", "/" -> "/".
std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::vector<TensorView> ViewsOf(const std::vector<HostTensor>& tensors) {
  std::vector<TensorView> views;
  for (const HostTensor& tensor : tensors) views.push_back(tensor.view());
  return views;
}

StatusOr<std::string> EncodeState(const Checkpoint& checkpoint) {
  const Value::Map* state = checkpoint.state.if_map();
  if (state == nullptr) return InvalidArgument(kStateFile, ": the state is not a map");
  for (const char* key : {"format_version", "step"}) {
    if (state->contains(key)) return InvalidArgument(kStateFile, ": the key ", key, " belongs to the checkpoint store");
  }
  Value::Map whole = *state;
  whole["format_version"] = kStateVersion;
  whole["step"] = checkpoint.step;
  std::string text = Value(std::move(whole)).ToJson() + "\n";
  // What could not be read again (a text that is not UTF-8) is refused while the run can still do something about it.
  RETURN_IF_ERROR(Annotate(ParseJson(text).status(), kStateFile));
  return text;
}

// The state of a directory whose manifest was read. kDataLoss, or kFailedPrecondition for a newer version.
StatusOr<Value> ReadState(const Storage& storage, const std::string& directory, Step step) {
  ASSIGN_OR_RETURN(const auto file, storage.Open(Cat(directory, "/", kStateFile)));
  const JsonLimits limits;
  if (file->bytes() > static_cast<uint64_t>(limits.bytes_max)) return DataLoss(kStateFile, " has ", file->bytes(), " bytes");
  std::string text(file->bytes(), '\0');
  RETURN_IF_ERROR(file->ReadAt(0, std::as_writable_bytes(std::span(text))));
  auto state = ParseJson(text, limits);
  if (!state.ok()) return DataLoss(kStateFile, ": ", Message(state.status()));
  Value::Map* map = state->if_map();
  const int64_t* version = state->At("format_version").if_int();
  if (version == nullptr || *version < 1) return DataLoss(kStateFile, " has no format_version");
  if (*version > kStateVersion) {
    return WithHint(FailedPrecondition(kStateFile, " has format version ", *version, ", this dtrain reads up to ", kStateVersion),
                    "use the dtrain that wrote it, or a newer one");
  }
  const int64_t* found_step = state->At("step").if_int();
  if (found_step == nullptr || *found_step != step) {
    return DataLoss(kStateFile, " is of step ", state->At("step").ToJson(), ", the manifest of step ", step);
  }
  map->erase("format_version");
  map->erase("step");
  return state;
}

// The metric called `name` in a state; nothing if it has none or none that is a number.
std::optional<double> MetricOf(const Value& state, const std::string& name) {
  const Value::Map* metrics = state.At("metrics").if_map();
  if (metrics == nullptr) return std::nullopt;
  const auto entry = metrics->find(name);
  if (entry == metrics->end()) return std::nullopt;
  if (const double* number = entry->second.if_double()) return *number;
  if (const int64_t* number = entry->second.if_int()) return static_cast<double>(*number);
  return std::nullopt;
}

StatusOr<Manifest> ReadOwnManifest(const Storage& storage, const std::string& directory) {
  ASSIGN_OR_RETURN(Manifest manifest, ReadManifest(storage, directory));
  for (const std::string_view name : {kModelFile, kOptimizerFile, kStateFile}) {
    if (!manifest.files.contains(std::string(name))) return DataLoss(kManifestFile, " does not list ", name);
  }
  return manifest;
}

StatusOr<SafetensorsContents> ReadTensors(const Storage& storage, const std::string& directory, std::string_view name) {
  ASSIGN_OR_RETURN(const auto file, storage.Open(Cat(directory, "/", name)));
  auto contents = ReadSafetensors(*file);
  if (!contents.ok()) return Annotate(contents.status(), name);
  return contents;
}

// A whole directory, every byte checked against the manifest first.
StatusOr<Checkpoint> LoadDirectory(const Storage& storage, const std::string& directory, std::optional<Step> expected_step) {
  ASSIGN_OR_RETURN(const Manifest manifest, ReadOwnManifest(storage, directory));
  if (expected_step && manifest.step != *expected_step)
    return DataLoss(kManifestFile, " is of step ", manifest.step, ", not ", *expected_step);
  RETURN_IF_ERROR(CheckFileContents(storage, directory, manifest));
  Checkpoint checkpoint{.step = manifest.step};
  ASSIGN_OR_RETURN(checkpoint.state, ReadState(storage, directory, manifest.step));
  ASSIGN_OR_RETURN(SafetensorsContents model, ReadTensors(storage, directory, kModelFile));
  ASSIGN_OR_RETURN(SafetensorsContents optimizer, ReadTensors(storage, directory, kOptimizerFile));
  checkpoint.model = std::move(model.tensors);
  checkpoint.model_metadata = std::move(model.metadata);
  checkpoint.optimizer = std::move(optimizer.tensors);
  return checkpoint;
}

// The files are at fault, and no later attempt would read them. kOutOfRange: a file was cut while it was read.
bool IsDamage(const Status& status) { return status.code() == StatusCode::kDataLoss || status.code() == StatusCode::kOutOfRange; }

// Closed and on the disk once this is OK.
Status Finish(WritableFile& file) {
  RETURN_IF_ERROR(file.Sync());
  return file.Close();
}

Status WriteText(Storage& storage, const std::string& path, std::string_view text) {
  ASSIGN_OR_RETURN(const auto file, storage.Create(path));
  RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(text))));
  return Finish(*file);
}

}  // namespace

std::string CheckpointName(Step step) {
  const std::string digits = Cat(step);
  return Cat("step-", std::string(digits.size() < 6 ? 6 - digits.size() : 0, '0'), digits);
}

std::vector<CheckpointInfo> BestFirst(std::vector<CheckpointInfo> checkpoints, const RetentionPolicy& policy) {
  std::erase_if(checkpoints, [](const CheckpointInfo& info) { return !info.complete() || !info.metric; });
  const double sign = policy.metric_is_better_when_larger ? 1 : -1;
  std::sort(checkpoints.begin(), checkpoints.end(), [&](const CheckpointInfo& a, const CheckpointInfo& b) {
    return std::pair(sign * *a.metric, a.step) > std::pair(sign * *b.metric, b.step);
  });
  return checkpoints;
}

CheckpointStore::CheckpointStore(Storage& storage, std::string run_directory, RetentionPolicy retention)
    : storage_(storage),
      run_directory_(std::move(run_directory)),
      directory_(Cat(run_directory_, "/", kFolder)),
      retention_(std::move(retention)) {}

std::string CheckpointStore::PathOf(std::string_view name) const { return Cat(directory_, "/", name); }

Status CheckpointStore::Save(const Checkpoint& checkpoint) {
  const std::string path = PathOf(CheckpointName(checkpoint.step));
  const std::string unfinished = Cat(path, kUnfinished);
  const auto save = [&]() -> Status {
    if (checkpoint.step < 0) return InvalidArgument("the step is negative");
    RETURN_IF_ERROR(MakeDirectories());
    RETURN_IF_ERROR(ClearLeftovers());
    if (Status status = WriteDirectory(checkpoint, unfinished); !status.ok()) {
      // What is left over would take room; if even this fails, the next Save tries again.
      if (const Status removed = storage_.RemoveAll(unfinished); !removed.ok()) Log(LogLevel::kWarning, Message(removed));
      return status;
    }
    RETURN_IF_ERROR(PutInPlace(checkpoint.step));
    RETURN_IF_ERROR(MoveLatest(checkpoint.step));
    return Retain(checkpoint.step);
  };
  const Status status = Annotate(save(), Cat("save ", path));
  if (status.code() != StatusCode::kResourceExhausted) return status;
  return WithHint(status, "make room on the disk or lower checkpoint.keep_last; the checkpoints saved before are untouched");
}

Status CheckpointStore::MakeDirectories() {
  if (directories_made_) return OkStatus();
  RETURN_IF_ERROR(storage_.CreateDirectories(directory_));
  // A directory that was made survives a power cut only once its parent is synced. Who made it and whether he got to
  // that is unknown (a crash may lie in between), so all the way up is synced, once per process.
  const std::string run_parent = ParentOf(run_directory_);
  bool above_run = false;
  for (std::string directory = directory_; directory != "/" && directory != ".";) {
    directory = ParentOf(directory);
    const Status synced = storage_.SyncDirectory(directory);
    // A folder that we may not even open is not one that we made.
    if (above_run && synced.code() == StatusCode::kPermissionDenied) break;
    RETURN_IF_ERROR(synced);
    above_run = above_run || directory == run_parent;
  }
  directories_made_ = true;
  return OkStatus();
}

Status CheckpointStore::ClearLeftovers() {
  ASSIGN_OR_RETURN(const auto names, storage_.List(directory_));
  const std::set<std::string, std::less<>> present(names.begin(), names.end());
  bool synced = false;
  for (const std::string& name : names) {
    const std::string_view stem = std::string_view(name).substr(0, name.size() < 4 ? 0 : name.size() - 4);
    if (!StepOf(stem)) continue;
    if (name.ends_with(kUnfinished) || (name.ends_with(kReplaced) && present.contains(stem))) {
      // The process before may have been killed between a rename and its sync. Only once the rename is on the disk may
      // files go: else a power cut could bring back the checkpoint's name with half of its files.
      if (!synced) RETURN_IF_ERROR(storage_.SyncDirectory(directory_));
      synced = true;
      RETURN_IF_ERROR(storage_.RemoveAll(PathOf(name)));
    } else if (name.ends_with(kReplaced)) {
      RETURN_IF_ERROR(storage_.Rename(PathOf(name), PathOf(stem)));
    }
  }
  return OkStatus();
}

Status CheckpointStore::WriteDirectory(const Checkpoint& checkpoint, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string state, EncodeState(checkpoint));
  RETURN_IF_ERROR(storage_.CreateDirectories(path));
  Manifest manifest{.step = checkpoint.step};
  const auto write = [&](std::string_view name, const auto& contents) -> Status {
    ASSIGN_OR_RETURN(auto created, storage_.Create(Cat(path, "/", name)));
    ChecksummedFile file(std::move(created));
    RETURN_IF_ERROR(contents(file));
    RETURN_IF_ERROR(Finish(file));
    manifest.files[std::string(name)] = file.written();
    return OkStatus();
  };
  RETURN_IF_ERROR(
      write(kModelFile, [&](WritableFile& file) { return WriteSafetensors(file, ViewsOf(checkpoint.model), checkpoint.model_metadata); }));
  RETURN_IF_ERROR(write(kOptimizerFile, [&](WritableFile& file) { return WriteSafetensors(file, ViewsOf(checkpoint.optimizer), {}); }));
  RETURN_IF_ERROR(write(kStateFile, [&](WritableFile& file) { return file.Append(std::as_bytes(std::span(state))); }));
  RETURN_IF_ERROR(WriteText(storage_, Cat(path, "/", kManifestFile), EncodeManifest(manifest)));
  return storage_.SyncDirectory(path);
}

Status CheckpointStore::PutInPlace(Step step) {
  const std::string path = PathOf(CheckpointName(step));
  ASSIGN_OR_RETURN(const bool replaces, storage_.Exists(path));
  if (replaces) RETURN_IF_ERROR(storage_.Rename(path, Cat(path, kReplaced)));
  RETURN_IF_ERROR(storage_.Rename(Cat(path, kUnfinished), path));
  RETURN_IF_ERROR(storage_.SyncDirectory(directory_));
  return replaces ? storage_.RemoveAll(Cat(path, kReplaced)) : OkStatus();
}

Status CheckpointStore::MoveLatest(Step step) {
  const std::string path = Cat(run_directory_, "/", kLatestFile);
  RETURN_IF_ERROR(WriteText(storage_, Cat(path, kUnfinished), Cat(kFolder, "/", CheckpointName(step), "\n")));
  RETURN_IF_ERROR(storage_.Rename(Cat(path, kUnfinished), path));
  return storage_.SyncDirectory(run_directory_);
}

Status CheckpointStore::Retain(Step just_saved) {
  ASSIGN_OR_RETURN(std::vector<CheckpointInfo> all, List());
  // A damaged one is left for people to look at: nothing here makes one, and it does not count as kept.
  std::erase_if(all, [](const CheckpointInfo& info) { return !info.complete(); });
  std::set<Step> kept = {just_saved};
  const auto count = [&](int keep) { return std::min(all.size(), static_cast<size_t>(std::max(keep, 0))); };
  for (size_t i = 0; i < std::max<size_t>(count(retention_.keep_last), all.empty() ? 0 : 1); ++i) kept.insert(all[all.size() - 1 - i].step);
  const auto best = BestFirst(all, retention_);
  for (size_t i = 0; i < std::min(count(retention_.keep_best), best.size()); ++i) kept.insert(best[i].step);

  std::vector<std::string> doomed;
  for (const CheckpointInfo& info : all) {
    if (kept.contains(info.step)) continue;
    // First away from its name, then deleted file by file: a crash must not leave half of it under a checkpoint's name.
    doomed.push_back(PathOf(CheckpointName(info.step)) + std::string(kUnfinished));
    RETURN_IF_ERROR(storage_.Rename(info.path, doomed.back()));
  }
  if (doomed.empty()) return OkStatus();
  RETURN_IF_ERROR(storage_.SyncDirectory(directory_));
  for (const std::string& path : doomed) RETURN_IF_ERROR(storage_.RemoveAll(path));
  return OkStatus();
}

StatusOr<std::map<Step, std::string>> CheckpointStore::Directories() const {
  std::map<Step, std::string> directories;
  const auto names = storage_.List(directory_);
  if (names.status().code() == StatusCode::kNotFound) return directories;
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {  // in order, so "step-000500" comes before "step-000500.old"
    const std::string_view stem = name.ends_with(kReplaced) ? std::string_view(name).substr(0, name.size() - kReplaced.size()) : name;
    if (const auto step = StepOf(stem)) directories.emplace(*step, PathOf(name));
  }
  return directories;
}

CheckpointInfo CheckpointStore::Inspect(Step step, const std::string& path) const {
  CheckpointInfo info{.step = step, .path = path};
  const auto inspect = [&]() -> Status {
    ASSIGN_OR_RETURN(const Manifest manifest, ReadOwnManifest(storage_, path));
    if (manifest.step != step) return DataLoss(kManifestFile, " is of step ", manifest.step, ", not ", step);
    for (const auto& [name, file] : manifest.files) info.bytes += file.bytes;
    RETURN_IF_ERROR(CheckFileSizes(storage_, path, manifest));
    ASSIGN_OR_RETURN(const Value state, ReadState(storage_, path, step));
    info.metric = MetricOf(state, retention_.metric);
    return OkStatus();
  };
  info.damage = Message(inspect());
  return info;
}

StatusOr<std::vector<CheckpointInfo>> CheckpointStore::List() const {
  auto directories = Directories();
  if (!directories.ok()) return Annotate(directories.status(), Cat("list the checkpoints of ", run_directory_));
  std::vector<CheckpointInfo> infos;
  for (const auto& [step, path] : *directories) infos.push_back(Inspect(step, path));
  return infos;
}

std::string CheckpointStore::NewestCompleteHint(const std::string& except_path) const {
  const auto all = List();
  if (!all.ok()) return "";
  for (auto info = all->rbegin(); info != all->rend(); ++info) {
    if (info->complete() && info->path != except_path) return Cat("resume from ", info->path, ", the newest complete checkpoint");
  }
  return Cat(run_directory_, " has no other complete checkpoint; start from another run's with --init-from");
}

StatusOr<Checkpoint> CheckpointStore::Load(Step step) const {
  ASSIGN_OR_RETURN(const auto directories, Directories());
  const auto found = directories.find(step);
  if (found == directories.end()) {
    const std::string path = PathOf(CheckpointName(step));
    return WithHint(NotFound("load ", path, ": there is no such checkpoint"), NewestCompleteHint(path));
  }
  auto checkpoint = LoadDirectory(storage_, found->second, step);
  if (checkpoint.ok()) return checkpoint;
  const Status status = Annotate(checkpoint.status(), Cat("load ", found->second));
  return IsDamage(status) ? WithHint(status, NewestCompleteHint(found->second)) : status;
}

StatusOr<std::optional<Checkpoint>> CheckpointStore::LoadNewest() const {
  ASSIGN_OR_RETURN(const auto directories, Directories());
  std::string damages;
  for (auto directory = directories.rbegin(); directory != directories.rend(); ++directory) {
    auto checkpoint = LoadDirectory(storage_, directory->second, directory->first);
    if (checkpoint.ok()) return std::optional(*std::move(checkpoint));
    const Status status = Annotate(checkpoint.status(), Cat("load ", directory->second));
    if (!IsDamage(status)) return status;
    Log(LogLevel::kWarning, Cat("passed over a damaged checkpoint: ", Message(status)));
    damages += Cat("\n  ", Message(status));
  }
  if (damages.empty()) return std::optional<Checkpoint>();
  return WithHint(DataLoss("resume ", run_directory_, ": none of its ", directories.size(), " checkpoints holds", damages),
                  "move the checkpoints folder aside to start anew, or start from another run's checkpoint with --init-from");
}

StatusOr<Checkpoint> CheckpointStore::LoadPath(const std::string& path) const {
  auto checkpoint = LoadDirectory(storage_, path, std::nullopt);
  if (checkpoint.ok()) return checkpoint;
  const Status status = Annotate(checkpoint.status(), Cat("load ", path));
  const auto holds_checkpoints = storage_.Exists(Cat(path, "/", kFolder));
  if (!holds_checkpoints.ok() || !*holds_checkpoints) return status;
  return WithHint(status, Cat("this is a run directory: name one of the checkpoints in ", path, "/", kFolder));
}

}  // namespace dtrain
