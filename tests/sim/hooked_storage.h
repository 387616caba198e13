// A Storage in front of another that asks a hook before each change, so that a test can leave one out, count, or end the
// program at an exact point. Reads go through unasked.
#pragma once
#include <functional>
#include <string>

#include "base/storage.h"

namespace dtrain {

enum class StorageOperation { kCreate, kAppend, kSyncFile, kCreateDirectories, kRename, kRemoveAll, kSyncDirectory };

class HookedStorage final : public Storage {
 public:
  // Asked before `operation` on `path` (of a rename: the target). False: the operation is left out and reported as OK.
  // Creating a file cannot be left out.
  using Hook = std::function<bool(StorageOperation operation, const std::string& path)>;

  HookedStorage(Storage& inner, Hook hook) : inner_(inner), hook_(std::move(hook)) {}

  StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override;
  StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) const override { return inner_.Open(path); }
  StatusOr<bool> Exists(const std::string& path) const override { return inner_.Exists(path); }
  StatusOr<std::vector<std::string>> List(const std::string& directory) const override { return inner_.List(directory); }
  Status CreateDirectories(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status RemoveAll(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;

 private:
  Storage& inner_;
  const Hook hook_;
};

}  // namespace dtrain
