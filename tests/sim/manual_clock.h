// A clock that stands still until it is told to go on. Safe from any thread.
#pragma once
#include <atomic>

#include "base/check.h"
#include "base/clock.h"

namespace dtrain {

class ManualClock final : public Clock {
 public:
  // Not at zero, so that a forgotten (default) TimePoint does not pass for now.
  explicit ManualClock(TimePoint start = TimePoint(std::chrono::hours(1))) : now_(start.time_since_epoch()) {}

  TimePoint Now() const override { return TimePoint(now_.load()); }
  // 2026-01-01 00:00 UTC at a start of one hour.
  double WallSeconds() const override { return 1'767'225'600 - 3600 + Seconds(now_.load()); }

  // Time never goes back.
  void Advance(Duration by) {
    DTRAIN_CHECK(by >= Duration::zero());
    Duration now = now_.load();
    while (!now_.compare_exchange_weak(now, now + by)) {
    }
  }

 private:
  std::atomic<Duration> now_;
};

}  // namespace dtrain
