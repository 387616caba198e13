// Which asynchronous work a shard has applied, so that each piece counts once whoever sends it again. Work is a lease of
// samples (epoch, number) times a chunk: bits for open leases, one number for all that are closed without a gap.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/codec.h"
#include "base/status.h"

namespace dtrain::ps {

struct LeaseName {
  int64_t epoch = 0, number = 0;
  auto operator<=>(const LeaseName&) const = default;
};

class WorkLog {
 public:
  explicit WorkLog(int chunks) : chunks_(chunks) {}

  // Whether `chunk` of `lease` was applied. Leases of an epoch two before the newest count as applied: an epoch is opened
  // only when the one before the last is done.
  bool Applied(const LeaseName& lease, int chunk) const;
  // OK if work of `lease` may be applied now; kResourceExhausted if it lies too far ahead of what is closed.
  Status MayApply(const LeaseName& lease) const;
  void MarkApplied(const LeaseName& lease, int chunk);

  int64_t closed_below(int64_t epoch) const;  // all leases of `epoch` with a smaller number are applied, all chunks
  void Encode(Encoder& to) const;
  static bool Decode(Decoder& from, int chunks, WorkLog* log);  // false if what was read is no log over `chunks`
  bool operator==(const WorkLog&) const = default;
  // The same log over another number of chunks; nothing while a lease is half done, of which no other chunk can tell.
  std::optional<WorkLog> Recut(int chunks) const;

 private:
  struct Epoch {
    int64_t closed_below = 0;
    std::set<int64_t> closed;  // above closed_below
    std::map<int64_t, std::vector<bool>> open;
    bool operator==(const Epoch&) const = default;
  };
  bool TooOld(int64_t epoch) const { return !epochs_.empty() && epoch < epochs_.rbegin()->first - 1; }

  int chunks_;
  std::map<int64_t, Epoch> epochs_;  // the newest two
};

}  // namespace dtrain::ps
