#include "tests/sim/hooked_storage.h"

#include <utility>

namespace dtrain {
namespace {

class HookedFile final : public WritableFile {
 public:
  HookedFile(std::unique_ptr<WritableFile> file, const HookedStorage::Hook& hook, std::string path)
      : file_(std::move(file)), hook_(hook), path_(std::move(path)) {}

  Status Append(std::span<const std::byte> bytes) override {
    return hook_(StorageOperation::kAppend, path_) ? file_->Append(bytes) : OkStatus();
  }
  Status Sync() override { return hook_(StorageOperation::kSyncFile, path_) ? file_->Sync() : OkStatus(); }
  Status Close() override { return file_->Close(); }

 private:
  const std::unique_ptr<WritableFile> file_;
  const HookedStorage::Hook& hook_;
  const std::string path_;
};

}  // namespace

StatusOr<std::unique_ptr<WritableFile>> HookedStorage::Create(const std::string& path) {
  hook_(StorageOperation::kCreate, path);
  ASSIGN_OR_RETURN(auto file, inner_.Create(path));
  return std::make_unique<HookedFile>(std::move(file), hook_, path);
}

StatusOr<std::unique_ptr<WritableFile>> HookedStorage::OpenAppend(const std::string& path) {
  hook_(StorageOperation::kCreate, path);
  ASSIGN_OR_RETURN(auto file, inner_.OpenAppend(path));
  return std::make_unique<HookedFile>(std::move(file), hook_, path);
}

Status HookedStorage::CreateDirectories(const std::string& path) {
  return hook_(StorageOperation::kCreateDirectories, path) ? inner_.CreateDirectories(path) : OkStatus();
}

Status HookedStorage::Rename(const std::string& from, const std::string& to) {
  return hook_(StorageOperation::kRename, to) ? inner_.Rename(from, to) : OkStatus();
}

Status HookedStorage::RemoveAll(const std::string& path) {
  return hook_(StorageOperation::kRemoveAll, path) ? inner_.RemoveAll(path) : OkStatus();
}

Status HookedStorage::SyncDirectory(const std::string& path) {
  return hook_(StorageOperation::kSyncDirectory, path) ? inner_.SyncDirectory(path) : OkStatus();
}

}  // namespace dtrain
