// The parameters of a shard in two buffers a chunk: the newest version, which pull answers read and nobody changes, and the
// one before it, which the next update overwrites. A reader pins what it reads; a pin that is older than a lease no
// longer holds an update up, and its reader is told that it came too late. So memory is two copies, whatever readers do.
// Not thread-safe; the payload of a pinned snapshot may be read from any thread while the pin holds.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace dtrain::ps {

using Pin = uint64_t;  // 0 is none

class Snapshots {
 public:
  Snapshots(std::vector<int64_t> chunk_elements, Duration lease);

  int64_t version(int chunk) const { return chunks_[chunk].version; }
  std::span<const float> Current(int chunk) const { return chunks_[chunk].buffers[chunks_[chunk].current]; }
  // The newest version of `chunk` in [min, max], if one of the two is.
  std::optional<int64_t> VersionWithin(int chunk, int64_t min, int64_t max) const;

  // Pins `version` of `chunk`, which is one of the two, for a lease. kResourceExhausted beyond kPinsMax.
  StatusOr<Pin> Hold(int chunk, int64_t version, TimePoint now);
  // What a pin holds; empty once it was released or its lease is over and the buffer was needed. Ask again after reading.
  std::span<const float> Read(Pin pin) const;
  void Release(Pin pin);

  // Whether the other buffer may be overwritten now; ends pins that are older than a lease.
  bool MayWrite(int chunk, TimePoint now);
  // The other buffer, to be filled with the next version; MayWrite was true.
  std::span<float> Other(int chunk);
  void Swap(int chunk, int64_t version);  // `version` is above the one before

  // Both buffers of `chunk` get `parameters`, as `version`. For a start, not during a run.
  void Place(int chunk, std::span<const float> parameters, int64_t version);

 private:
  struct ChunkBuffers {
    std::array<std::vector<float>, 2> buffers;
    int current = 0;
    int64_t version = -1, other_version = -1;
    std::array<std::map<Pin, TimePoint>, 2> pins;  // pin -> when its lease is over
  };
  struct PinnedAt {
    int chunk, buffer;
  };
  std::vector<ChunkBuffers> chunks_;
  std::map<Pin, PinnedAt> pins_;
  Pin next_pin_ = 1;
  Duration lease_;
};

}  // namespace dtrain::ps
