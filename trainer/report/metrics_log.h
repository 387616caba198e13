// metrics.jsonl: what happened at which step, one JSON map a line. Each line is a whole write, so a program that follows
// the file sees whole lines; a line torn by a crash is cut away at the next Open.
//
// The file tells one history: where a run goes back (a resume from a checkpoint, a roll back), the lines of the steps
// that are done again make room for the new ones, by an atomic rewrite.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "base/storage.h"
#include "base/value.h"
#include "base/view.h"

namespace dtrain {

class MetricsLog {
 public:
  // Makes the file, or goes on with the one there: whole lines up to step `resumed_from` stay, later and unreadable ones go.
  // A run that starts afresh passes 0 and `fresh`: then nothing stays. `storage` outlives the log.
  static StatusOr<MetricsLog> Open(Storage& storage, std::string path, Step resumed_from, bool fresh);

  // `line` is a map with "event" (text) and "step" (integer). A line of the same event and an earlier step drops all later
  // lines first, one of the same event and step takes the place of the old one. After an error (a full disk) the next
  // Append mends the file and tries again; the failed line is lost.
  Status Append(const Value& line);

  // What was appended survives a power cut.
  Status Sync();

 private:
  MetricsLog(Storage& storage, std::string path) : storage_(&storage), path_(std::move(path)) {}
  // Rewrites the file with the lines of steps up to `last`, without those of `event` at `last`; opens it to append.
  Status Rewind(Step last, const std::string& event);

  Storage* storage_;
  std::string path_;
  std::unique_ptr<WritableFile> file_;     // null: to be mended first
  std::map<std::string, Step> last_step_;  // of each event
};

}  // namespace dtrain
