#include "paramserver/durable_file.h"

namespace dtrain::ps {

namespace {

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Status MakeDurableDirectory(Storage& storage, const std::string& directory) {
  // The directory's own parent is always synced: it may have been made by a process that ended before it got to that.
  std::vector<std::string> parents = {ParentOf(directory)};
  while (parents.back() != "." && parents.back() != "/") {
    ASSIGN_OR_RETURN(const bool exists, storage.Exists(parents.back()));
    if (exists) break;
    parents.push_back(ParentOf(parents.back()));
  }
  RETURN_IF_ERROR(storage.CreateDirectories(directory));
  // From the top: a name is worth nothing in a directory that is lost.
  for (auto parent = parents.rbegin(); parent != parents.rend(); ++parent) RETURN_IF_ERROR(storage.SyncDirectory(*parent));
  return OkStatus();
}

Status WriteDurableFile(Storage& storage, const std::string& directory, const std::string& name, std::span<const std::byte> bytes) {
  const std::string path = Cat(directory, "/", name), fresh = path + ".tmp";
  RETURN_IF_ERROR(MakeDurableDirectory(storage, directory));
  ASSIGN_OR_RETURN(const auto file, storage.Create(fresh));
  RETURN_IF_ERROR(file->Append(bytes));
  RETURN_IF_ERROR(file->Sync());
  RETURN_IF_ERROR(file->Close());
  RETURN_IF_ERROR(storage.Rename(fresh, path));
  return storage.SyncDirectory(directory);
}

}  // namespace dtrain::ps
