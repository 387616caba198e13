// What a shard decided that is no function of the configuration: after a rollback the same steps must be decided the same
// way, so these are written to the journal before any answer that rests on them leaves.
#pragma once
#include <cstdint>
#include <variant>

#include "base/view.h"

namespace dtrain::ps {

// With backup workers: `worker`'s gradient is number `slot` of those that count in `step`. The newest for a slot holds.
struct GrantDecision {
  Step step = 0;
  int32_t slot = 0, worker = 0;
  bool operator==(const GrantDecision&) const = default;
};

// The gradient of `step` was not applied.
struct SkipDecision {
  Step step = 0;
  bool operator==(const SkipDecision&) const = default;
};

using Decision = std::variant<GrantDecision, SkipDecision>;

}  // namespace dtrain::ps
