// Time as a parameter: production passes SystemClock(), tests pass tests/sim/manual_clock.h.
// State machines take the time of each event as an argument and never ask a clock themselves.
#pragma once
#include <chrono>

namespace dtrain {

using Duration = std::chrono::nanoseconds;
// Monotonic; comparable within one host only.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;
  // Seconds since 1970-01-01 UTC; for files and people, never for deadlines.
  virtual double WallSeconds() const = 0;
};

// The machine's own clock; lives as long as the program.
const Clock& SystemClock();

// The moment at which a wait gives up. Every wait has one.
struct Deadline {
  TimePoint at;

  // A wait too long for the clock ends with it.
  static Deadline In(Duration wait, const Clock& clock = SystemClock()) {
    const TimePoint now = clock.Now();
    return {wait > TimePoint::max() - now ? TimePoint::max() : now + wait};
  }
  Duration Left(const Clock& clock = SystemClock()) const { return at - clock.Now(); }
  bool Passed(const Clock& clock = SystemClock()) const { return clock.Now() >= at; }
};

inline double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
// Cut to what a Duration holds (292 years); NaN is 0.
Duration FromSeconds(double seconds);

}  // namespace dtrain
