// The journal of a shard's decisions (decision.h) in one file, and the queue that keeps an answer until what it rests on is
// on the disk. A record that was torn by a crash is the last one and was never acknowledged, so it is dropped; damage
// anywhere else is an error.
//   file = header, records;   each: u32 length, u32 CRC32C of sequence and payload, payload (base/codec.h)
#pragma once
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/storage.h"
#include "paramserver/shard.h"

namespace dtrain::ps {

class Journal {
 public:
  // Opens `directory`/journal-<server>, or makes it. kFailedPrecondition if it is another job's, kDataLoss if it is damaged
  // before its end. What was torn off its end by a crash is gone.
  static StatusOr<std::unique_ptr<Journal>> Open(Storage& storage, const std::string& directory, uint64_t job, int server);

  const std::vector<Decision>& decisions() const { return decisions_; }

  Status Append(const Decision& decision);
  Status Sync();  // what was appended survives a power cut
  // Forgets the decisions of steps below `step`, which a checkpoint holds that is on the disk itself. Replaces the file, so
  // a crash leaves the old one or the new one.
  Status Cut(Step step);

 private:
  Journal(Storage& storage, std::string directory, uint64_t job, int server);
  std::string path() const;
  Status Rewrite();

  Storage& storage_;
  const std::string directory_;
  const uint64_t job_;
  const int server_;
  std::vector<Decision> decisions_;
  std::unique_ptr<WritableFile> file_;
  uint32_t next_ = 0;  // sequence of the next record
};

// Effects go in as they come, messages come out in the same order, each after the decisions before it are synced.
class Outbox {
 public:
  explicit Outbox(Journal& journal, Duration group = kJournalGroup) : journal_(journal), group_(group) {}

  // Writes the decisions at once. An error: the shard can no longer keep its word and must end.
  Status Put(Effects effects, TimePoint now);
  // What may be sent now; syncs when the group's time is up.
  StatusOr<std::vector<Outgoing>> Take(TimePoint now);
  TimePoint NextSync() const { return first_unsynced_ ? *first_unsynced_ + group_ : TimePoint::max(); }

 private:
  struct Batch {
    int64_t after;  // records that must be synced first
    std::vector<Outgoing> messages;
  };
  Journal& journal_;
  const Duration group_;
  int64_t written_ = 0, synced_ = 0;
  std::optional<TimePoint> first_unsynced_;
  std::deque<Batch> batches_;
};

}  // namespace dtrain::ps
