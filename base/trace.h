// What happened when: named spans of time of a rank's threads, for a timeline. Recorded only while it is on; otherwise a span
// costs one load. Safe from any thread.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/view.h"

namespace dtrain {

enum class TraceThread { kCompute, kExchange };

struct TraceSpan {
  std::string name;  // of a fixed set: "data", "forward_backward", "bucket", ...
  TraceThread thread = TraceThread::kCompute;
  TimePoint begin, end;
  Step step = 0;
  int64_t bucket = -1;  // -1: none
};

class Trace {
 public:
  static constexpr size_t kSpansMax = 200'000;  // further ones are counted, not kept

  bool on() const { return on_.load(std::memory_order_relaxed); }
  void Start() { on_ = true; }
  void Stop() { on_ = false; }
  void Add(TraceSpan span);
  std::vector<TraceSpan> Take();  // and forgets them
  int64_t dropped() const;

 private:
  std::atomic<bool> on_ = false;
  mutable std::mutex mutex_;
  std::vector<TraceSpan> spans_;
  int64_t dropped_ = 0;
};

// The span of a scope. `trace` may be null.
class TraceScope {
 public:
  TraceScope(Trace* trace, const char* name, TraceThread thread, Step step, int64_t bucket = -1)
      : trace_(trace != nullptr && trace->on() ? trace : nullptr), name_(name), thread_(thread), step_(step), bucket_(bucket) {
    if (trace_ != nullptr) begin_ = SystemClock().Now();
  }
  ~TraceScope() {
    if (trace_ != nullptr) trace_->Add({name_, thread_, begin_, SystemClock().Now(), step_, bucket_});
  }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  Trace* trace_;
  const char* name_;
  TraceThread thread_;
  Step step_;
  int64_t bucket_;
  TimePoint begin_;
};

}  // namespace dtrain
