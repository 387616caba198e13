// A disk in memory that forgets, on a power cut, what was not synced. For each file: any prefix of the bytes appended since
// its last Sync may have reached the disk, or a tail of zeros of the right length (the length was written before the
// data). For each entry of a directory (made, renamed, removed) since the directory's last SyncDirectory: each for itself
// may have reached the disk or not, in any combination. That is weaker than most real file systems, as it should be:
// after Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.
//
// Operations (everything that changes the disk or makes it durable) are numbered from 0, so that a test can cut the power
// or fail at each one of a run. Safe from any thread.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/storage.h"

namespace dtrain {

class SimStorage final : public Storage {
 public:
  SimStorage();
  ~SimStorage() override;

  StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override;
  StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) const override;
  StatusOr<bool> Exists(const std::string& path) const override;
  StatusOr<std::vector<std::string>> List(const std::string& directory) const override;
  Status CreateDirectories(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status RemoveAll(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;

  // How many operations were asked for since the beginning.
  int64_t operations() const;
  // Instead of operation number `operation`: the power fails. From then on every call is kUnavailable, until PowerCut.
  void CrashAt(int64_t operation);
  // Instead of operation number `operation`: `failure`, once; an Append then leaves part of its bytes.
  void FailAt(int64_t operation, Status failure);
  // At most so many bytes of files in all; an Append beyond leaves what fits and is kResourceExhausted.
  void SetCapacity(int64_t bytes);
  // Reads past this offset of any file are kOutOfRange, as if it had been cut after it was opened.
  void CutReadsAt(uint64_t offset);

  // The power fails and comes back: what was not synced survives in part, as `seed` decides. Files opened before are dead.
  void PowerCut(uint64_t seed);

  // The bytes of a file as they are, to look at or to damage. The file exists.
  std::vector<std::byte> Contents(const std::string& path) const;
  void SetContents(const std::string& path, std::vector<std::byte> bytes);  // as if they had always been there

 private:
  struct Node;
  struct Change;
  class SimWritableFile;
  class SimReadableFile;
  using NodePointer = std::shared_ptr<Node>;

  // All under the lock.
  Status NextOperation();  // OK: carry it out
  Status CheckPower() const;
  NodePointer Find(const std::string& path) const;  // nullptr if absent
  StatusOr<NodePointer> FindParent(const std::string& path) const;
  StatusOr<std::unique_ptr<WritableFile>> OpenToWrite(const std::string& path, bool truncate);
  Status AppendTo(Node& node, const std::string& path, std::span<const std::byte> bytes);
  Status Remove(const NodePointer& parent, const std::string& name);
  void Record(Change change);

  mutable std::mutex mutex_;
  NodePointer root_;
  std::vector<Change> pending_;  // changes of entries that no SyncDirectory covers yet, in order
  int64_t operations_ = 0;
  int64_t crash_at_ = INT64_MAX;
  std::map<int64_t, Status> failures_;
  int64_t capacity_bytes_ = INT64_MAX;
  uint64_t reads_end_ = UINT64_MAX;
  bool power_ = true;
  int64_t power_cuts_ = 0;  // files opened before the last one are dead
};

}  // namespace dtrain
