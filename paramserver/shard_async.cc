// The asynchronous half of a shard: each push is an update of its chunk.
#include <algorithm>
#include <cmath>

#include "optim/block_sums.h"
#include "paramserver/shard.h"

namespace dtrain::ps {
namespace {

double Divisor(StalenessRule rule, int64_t staleness) {
  const auto updates = static_cast<double>(std::max<int64_t>(1, staleness));
  switch (rule) {
    case StalenessRule::kNone:
      return 1;
    case StalenessRule::kLinear:
      return updates;
    case StalenessRule::kSqrt:
      return std::sqrt(updates);
  }
  return 1;
}

}  // namespace

void Shard::OnPushAsync(const Sender& from, const dtrain::ps::Message& message, Effects& effects, TimePoint now) {
  const Push& push = std::get<Push>(message.body);
  const auto wrong = [&](const auto&... parts) {
    Refuse(from.worker, InvalidArgument("push lease ", push.work.step, " of epoch ", push.work.epoch, ": ", parts...), effects);
  };
  const auto found = FindChunk(push.offset, static_cast<int64_t>(message.elements.size()));
  if (!found.ok()) return wrong(dtrain::Message(found.status()));
  if (push.work.unit != SubTree{}) return wrong("names a sub-tree; expected the whole lease");
  const int chunk = *found;
  const int64_t version = snapshots_->version(chunk);
  const LeaseName lease{push.work.epoch, push.work.step};
  const auto answer = [&](PushOutcome outcome) {
    Say(from.worker, PushAnswer{push.work, push.offset, outcome, snapshots_->version(chunk)}, effects);
  };
  if (work_.Applied(lease, chunk)) {
    answer(PushOutcome::kTaken);
    return SendParameters(from.worker, chunk, version, effects, now);
  }
  if (push.read_version > version) return wrong("computed on version ", push.read_version, "; the newest is ", version);
  if (!(push.scale > 0 && std::isfinite(push.scale))) return wrong("scale ", push.scale, "; expected a number above 0");
  // One of them would make every parameter of the chunk useless, for everybody.
  if (!AllFinite(message.elements)) return wrong("a gradient that is not finite");
  if (!work_.MayApply(lease).ok() || !snapshots_->MayWrite(chunk, now)) return answer(PushOutcome::kLater);
  const int64_t staleness = version - push.read_version;
  const double rate = options_.learning_rate(version / options_.updates_per_step) / Divisor(options_.staleness_rule, staleness);
  ApplyToChunk(chunk, {.update = version + 1, .learning_rate = rate, .gradient_scale = push.scale}, message.elements);
  snapshots_->Swap(chunk, version + 1);
  work_.MarkApplied(lease, chunk);
  ++updates_;
  effects.taken.push_back({push.work, first_chunk_ + chunk, from, staleness});
  CountStaleness(from.worker, staleness);
  answer(PushOutcome::kTaken);
  SendParameters(from.worker, chunk, version + 1, effects, now);
  AnswerPulls(chunk, effects, now);
}

void Shard::CountStaleness(int32_t worker, int64_t staleness) {
  ++staleness_[worker][static_cast<size_t>(std::min<int64_t>(staleness, kStalenessBuckets - 1))];
}

}  // namespace dtrain::ps
