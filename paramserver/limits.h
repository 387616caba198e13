// Every limit of the parameter server in one place. What a peer sends is held against these before anything is
// allocated for it; what goes beyond is refused and named.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace dtrain::ps {

// The table.
inline constexpr int kTensorsMax = 100'000;
inline constexpr size_t kNameBytesMax = 1'024;
inline constexpr int kDimensionsMax = 16;
inline constexpr int64_t kElementsMax = int64_t{1} << 40;  // of one exchange, all tensors together
inline constexpr int kGroupsMax = 1'024;
inline constexpr int kServersMax = 4'096;
inline constexpr int64_t kShardBytesMax = int64_t{64} << 30;  // what one server keeps of a table: two snapshots, slots, accumulator
inline constexpr int64_t kChunkBytesMax = 16 << 20;           // of one data message; below a frame's 64 MiB

// A step.
inline constexpr int64_t kLeavesMax = 65'536;
inline constexpr int kWorkersMax = 65'536;
inline constexpr int64_t kStalenessBoundMax = 64;
inline constexpr int64_t kHeldBytes = 64 << 20;              // pushes that came before their turn and wait at the server, per shard
inline constexpr size_t kDeferredMax = 65'536;               // senders that are told when their turn has come, per shard
inline constexpr size_t kPinsMax = 65'536;                   // pull answers on their way out, per shard
inline constexpr Duration kLease = std::chrono::seconds(5);  // how long one of them may keep a snapshot from being overwritten

// Asynchronous work.
inline constexpr int64_t kLeasesOpenMax = 65'536;  // sample leases that may be open at a time in one epoch
inline constexpr int kStalenessBuckets = 64;       // of the histogram; the last one counts all above

// Messages.
inline constexpr size_t kHeadBytesMax = 16 << 20;  // all of a message but its payload; a table is the largest
inline constexpr size_t kTextBytesMax = 4'096;     // words for people
inline constexpr int kSumPartsMax = 128;           // of one shard's share in the sum over blocks

// The worker's side.
inline constexpr int64_t kWindowBytes = 16 << 20;  // pushed and not answered yet, per shard
inline constexpr Duration kRetryMin = std::chrono::milliseconds(50);
inline constexpr Duration kRetryMax = std::chrono::seconds(1);
inline constexpr Duration kSilenceMax = std::chrono::seconds(5);  // of a shard that was asked; then the request has failed

// Files.
inline constexpr size_t kJournalRecordBytesMax = 64 << 10;
inline constexpr size_t kJournalRecordsMax = 1 << 20;
inline constexpr size_t kManifestBytesMax = 1 << 20;
inline constexpr Duration kJournalGroup = std::chrono::milliseconds(2);  // decisions that are synced together

}  // namespace dtrain::ps
