// A checkpoint of the servers alone: a part a server, and a manifest that makes them one. In this order:
//   1. every server writes its part of the same closed step and syncs it;
//   2. the manifest is written, with the sizes and checksums of all parts: sync, rename, sync of the directory;
//   3. only then every server cuts its journal and removes older parts.
// So at any moment there is a manifest all of whose parts are whole, or none was ever complete. Parts may lie in other
// places (each server's own disk) than the manifest.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/storage.h"
#include "paramserver/shard.h"

namespace dtrain::ps {

struct PartInfo {
  int server = 0;
  uint64_t bytes = 0;
  uint32_t crc = 0;
  bool operator==(const PartInfo&) const = default;
};

struct Manifest {
  uint64_t job = 0;
  Step step = 0;
  int64_t view = 0;             // in which it was taken; a view after it is higher
  std::string cursor;           // where the data goes on: leases, epoch; the parameter server does not look inside
  std::vector<PartInfo> parts;  // ascending by server, all of them
  bool operator==(const Manifest&) const = default;
};

// 1. `directory`/part-<server>-<step>. Durable when it returns.
StatusOr<PartInfo> WritePart(Storage& storage, const std::string& directory, uint64_t job, const ShardState& state);
// kDataLoss if it is not what `info` says, kNotFound if it is not there, kFailedPrecondition if it is another job's.
StatusOr<ShardState> ReadPart(const Storage& storage, const std::string& directory, uint64_t job, Step step, const PartInfo& info);

// 2. `directory`/manifest-<step>. Durable when it returns.
Status WriteManifest(Storage& storage, const std::string& directory, const Manifest& manifest);
// The newest whole manifest of `job`; nothing if there is none. One that is damaged is passed over for an older one and
// named in the log. kFailedPrecondition if there are only other jobs'.
StatusOr<std::optional<Manifest>> NewestManifest(const Storage& storage, const std::string& directory, uint64_t job);

// 3. Parts and manifests of steps below `step`.
Status RemoveBefore(Storage& storage, const std::string& directory, Step step);

// The states of all servers cut anew over `servers`, under the next table version: the same parameters and slots, bit for
// bit. `parts` is ascending by server. kFailedPrecondition if they are not of one step, or asynchronous leases are half done.
StatusOr<std::vector<ShardState>> Reshard(const std::vector<ShardState>& parts, int servers);

}  // namespace dtrain::ps
