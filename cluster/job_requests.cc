#include "cluster/job_requests.h"

#include <signal.h>

#include <utility>

namespace dtrain {
namespace {

constexpr Duration kTwiceWithin = std::chrono::seconds(5);  // two SIGINTs so near mean: at once

}  // namespace

Answer JobRequests::OnQuery(const std::string& query, const JobOptions& options) {
  if (query == "stop") {
    Stop();
    return {true, "the job was asked to save and stop"};
  }
  if (query == "save") {
    Save();
    return {true, "the job was asked to save"};
  }
  std::string answer = options.on_query ? options.on_query(query) : "";
  if (answer.empty()) return {false, Cat("it does not understand \"", query, "\"")};
  return {true, std::move(answer)};
}

void JobRequests::Tell(Coordinator& machine, const JobOptions& options) {
  // Whoever asks for a save and then for a stop gets both: the stop is looked at first and told last.
  const bool stop = stop_wanted_;
  for (; saves_told_ < saves_wanted_; ++saves_told_) machine.RequestSave();
  if (!stop || std::exchange(stop_told_, true)) return;
  machine.RequestStop();
  if (!machine.over() && options.on_notice) {
    options.on_notice(LogLevel::kInfo, "stopping: the job was asked to save and stop (Ctrl-C twice ends it at once)");
  }
}

StopSignals::Ask StopSignals::On(int signal, TimePoint now) {
  if (signal == SIGINT) {
    if (interrupted_.has_value() && now - *interrupted_ < kTwiceWithin) return Ask::kEnd;
    interrupted_ = now;
  }
  return signal == SIGINT || signal == SIGTERM || signal == SIGUSR1 ? Ask::kStop : Ask::kNothing;
}

}  // namespace dtrain
