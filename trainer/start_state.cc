#include "trainer/start_state.h"

#include <filesystem>
#include <set>

#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/checkpoint/safetensors.h"

namespace dtrain {
namespace {

StatusOr<std::vector<HostTensor>> ReadTensors(Storage& storage, const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    ASSIGN_OR_RETURN(const auto file, storage.Open(path));
    ASSIGN_OR_RETURN(SafetensorsContents contents, ReadSafetensors(*file));
    return std::move(contents.tensors);
  }
  ASSIGN_OR_RETURN(const bool is_checkpoint, storage.Exists(path + "/manifest.json"));
  const CheckpointStore store(storage, path, {});
  if (is_checkpoint) {
    ASSIGN_OR_RETURN(Checkpoint checkpoint, store.LoadPath(path));
    return std::move(checkpoint.model);
  }
  ASSIGN_OR_RETURN(auto newest, store.LoadNewest());
  if (!newest) return NotFound("no checkpoint there; expected a .safetensors file, a checkpoint directory or a run directory");
  return std::move(newest->model);
}

}  // namespace

StatusOr<std::vector<HostTensor>> LoadInitialTensors(Storage& storage, const std::string& path,
                                                     const std::map<std::string, std::string>& names) {
  auto read = ReadTensors(storage, path);
  if (!read.ok()) return Annotate(read.status(), Cat("start from ", path));
  std::set<std::string> taken, unknown;
  for (const auto& [from, to] : names) unknown.insert(from);
  std::vector<HostTensor> tensors;
  for (HostTensor& tensor : *read) {
    if (const auto entry = names.find(tensor.info.name); entry != names.end()) {
      unknown.erase(entry->first);
      tensor.info.name = entry->second;
    }
    if (tensor.info.name.empty()) continue;
    if (!taken.insert(tensor.info.name).second) {
      return InvalidArgument("start from ", path, ": two tensors get the name '", tensor.info.name, "' by the name map");
    }
    tensors.push_back(std::move(tensor));
  }
  if (unknown.empty()) return tensors;
  std::vector<std::string> found(taken.begin(), taken.end());
  return InvalidArgument("start from ", path, ": the name map has '", *unknown.begin(), "', which is not in the file; it holds ",
                         Join(found, ", "));
}

StatusOr<std::map<std::string, std::string>> ParseNameMap(const std::string& text) {
  std::map<std::string, std::string> names;
  if (text.empty()) return names;
  for (const std::string& part : Split(text, ',')) {
    const size_t equals = part.find('=');
    if (equals == std::string::npos || equals == 0) {
      return InvalidArgument("read the name map: found '", part, "', expected old=new, pairs separated by commas");
    }
    names[part.substr(0, equals)] = part.substr(equals + 1);
  }
  return names;
}

}  // namespace dtrain
