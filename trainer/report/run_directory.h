// Where the files of a run lie. Names are a contract; everything that reads or writes
// a run directory takes them from here.
#pragma once
#include <string>
#include <string_view>

#include "base/status.h"
#include "base/storage.h"
#include "base/value.h"

namespace dtrain {

class RunDirectory {
 public:
  // Touches nothing.
  explicit RunDirectory(std::string path);

  const std::string& path() const { return path_; }
  std::string name() const;  // the last part of the path

  std::string config() const { return In("config.yaml"); }      // as given
  std::string resolved() const { return In("resolved.yaml"); }  // every key, with defaults
  std::string env() const { return In("env.json"); }            // trainer/report/environment.h
  std::string processes() const { return In("processes.json"); }
  std::string latest() const { return In("LATEST"); }  // name of the newest checkpoint
  std::string metrics() const { return In("metrics.jsonl"); }
  std::string result() const { return In("result.json"); }
  std::string trace() const { return In("trace.json"); }
  std::string logs() const { return In("logs"); }
  std::string RankLog(int rank) const;  // logs/rank-N.log
  std::string checkpoints() const { return In("checkpoints"); }
  std::string In(std::string_view name) const;  // a file of the run directory

  // Makes the directory and its logs folder and writes config.yaml, resolved.yaml and env.json, each atomically; those of an
  // earlier start are replaced. The caller holds the directory's lock where two processes could meet.
  Status Create(Storage& storage, std::string_view config_text, std::string_view resolved_text, const Value& environment) const;

 private:
  std::string path_;
};

// Whether the run in `directory` is finished (its result says done); then `train` has nothing to do. An absent result is
// false; a damaged one is an error.
StatusOr<bool> IsFinished(const Storage& storage, const RunDirectory& directory);

}  // namespace dtrain
