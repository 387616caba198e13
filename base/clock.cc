#include "base/clock.h"

namespace dtrain {
namespace {

class RealClock final : public Clock {
 public:
  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
  double WallSeconds() const override { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }
};

}  // namespace

Duration FromSeconds(double seconds) {
  constexpr double kMost = 9e9;
  if (!(seconds > -kMost)) return seconds <= -kMost ? Duration::min() : Duration::zero();
  return seconds < kMost ? std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds)) : Duration::max();
}

const Clock& SystemClock() {
  static const RealClock clock;
  return clock;
}

}  // namespace dtrain
