// Files as a seam: production uses the POSIX implementation (trainer/storage/posix_storage.h), tests use tests/sim/sim_storage.h,
// which forgets on a "power cut" whatever was not synced. Whoever must survive a crash writes through this interface.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace dtrain {

class WritableFile {
 public:
  virtual ~WritableFile() = default;  // closes without sync
  // All bytes or an error; kResourceExhausted when the disk is full.
  virtual Status Append(std::span<const std::byte> bytes) = 0;
  // What was appended survives a power cut once this returns OK (fsync).
  virtual Status Sync() = 0;
  virtual Status Close() = 0;
};

class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  virtual uint64_t bytes() const = 0;
  // Exactly `to.size()` bytes from `offset`; kOutOfRange if the file ends before.
  virtual Status ReadAt(uint64_t offset, std::span<std::byte> to) const = 0;
};

// Paths are ordinary file-system paths. Errors name the path. Safe to call from any thread.
class Storage {
 public:
  virtual ~Storage() = default;
  virtual StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;      // truncates
  virtual StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) = 0;  // creates if absent
  virtual StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) const = 0;  // kNotFound
  virtual StatusOr<bool> Exists(const std::string& path) const = 0;
  virtual StatusOr<std::vector<std::string>> List(const std::string& directory) const = 0;  // names, sorted; kNotFound
  virtual Status CreateDirectories(const std::string& path) = 0;                            // with parents; OK if there already
  virtual Status Rename(const std::string& from, const std::string& to) = 0;                // replaces a file; atomic
  virtual Status RemoveAll(const std::string& path) = 0;      // a file or a folder with what is in it; OK if absent
  virtual Status SyncDirectory(const std::string& path) = 0;  // entries made and renamed in it survive a power cut
};

}  // namespace dtrain
