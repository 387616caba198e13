// What people ask of a job while it runs, from any thread or by signal, until its coordinator is told.
#pragma once
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "cluster/coordinator.h"
#include "cluster/job.h"

namespace dtrain {

class JobRequests {
 public:
  void Stop() { stop_wanted_ = true; }
  void Save() { ++saves_wanted_; }
  // A client's question: "stop", "save", or what the options' on_query understands. Nothing is told yet.
  Answer OnQuery(const std::string& query, const JobOptions& options);
  // Tells the coordinator what is new. By its thread.
  void Tell(Coordinator& machine, const JobOptions& options);

 private:
  std::atomic<bool> stop_wanted_ = false;
  std::atomic<int64_t> saves_wanted_ = 0;
  bool stop_told_ = false;  // Tell's alone, like the next
  int64_t saves_told_ = 0;
};

// How signals ask: SIGTERM, SIGINT and SIGUSR1 for a stop, a second SIGINT soon after the first for the end at once.
class StopSignals {
 public:
  enum class Ask { kNothing, kStop, kEnd };
  // What `signal` asks for at `now`.
  Ask On(int signal, TimePoint now);

 private:
  std::optional<TimePoint> interrupted_;  // the last SIGINT
};

}  // namespace dtrain
