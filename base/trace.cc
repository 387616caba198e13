#include "base/trace.h"

#include <utility>

namespace dtrain {

void Trace::Add(TraceSpan span) {
  const std::lock_guard lock(mutex_);
  if (spans_.size() < kSpansMax) {
    spans_.push_back(std::move(span));
  } else {
    ++dropped_;
  }
}

std::vector<TraceSpan> Trace::Take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(spans_, {});
}

int64_t Trace::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

}  // namespace dtrain
