// The synchronous and bounded-stale half of a shard: rounds of gradients in tree order.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "optim/block_sums.h"
#include "optim/clip.h"
#include "paramserver/shard.h"

namespace dtrain::ps {

Status Shard::CheckPush(const Push& push) const {
  const Work& work = push.work;
  if (work.epoch != 0) return InvalidArgument("push to step ", work.step, ": names epoch ", work.epoch, "; expected 0");
  if (work.unit.leaves().end() > options_.leaves) {
    return InvalidArgument("push to step ", work.step, ": leaves up to ", work.unit.leaves().end(), "; a step has ", options_.leaves);
  }
  if (work.step > version_ + bound()) {
    return FailedPrecondition("push to step ", work.step, ": the open step is ", version_, " and the bound ", bound());
  }
  if (push.read_version > work.step || push.read_version < work.step - bound()) {
    return FailedPrecondition("push to step ", work.step, ": computed on version ", push.read_version, "; expected ", work.step - bound(),
                              " to ", work.step);
  }
  return OkStatus();
}

void Shard::OnPush(const Sender& from, const dtrain::ps::Message& message, Effects& effects, TimePoint now) {
  const Push& push = std::get<Push>(message.body);
  const auto found = FindChunk(push.offset, static_cast<int64_t>(message.elements.size()));
  Status status = found.status();
  // Of a step that is over nothing is looked at: it may have been computed on what this shard has got since.
  if (status.ok() && push.work.step >= version_) status = CheckPush(push);
  if (!status.ok()) return Refuse(from.worker, status, effects);
  const int chunk = *found;
  const auto answer = [&](PushOutcome outcome) { Say(from.worker, PushAnswer{push.work, push.offset, outcome, version_}, effects); };
  if (push.work.step < version_) return answer(PushOutcome::kClosed);
  if (push.work.step > version_) return Hold(from, chunk, message, effects);
  switch (sums_[chunk].TurnOf(push.work.unit)) {
    case ChunkSum::Turn::kDone:
      return answer(PushOutcome::kTaken);
    case ChunkSum::Turn::kConflict:
      return Refuse(from.worker,
                    FailedPrecondition("push to step ", push.work.step, ": some leaves of sub-tree (", push.work.unit.level, ", ",
                                       push.work.unit.index, ") were taken as part of another one"),
                    effects);
    case ChunkSum::Turn::kEarly:
      return Hold(from, chunk, message, effects);
    case ChunkSum::Turn::kNow:
      Take(from, chunk, push, message.elements, effects);
      TakeHeld(chunk, effects);
      TryClose(effects, now);
  }
}

// It came before its turn: kept if there is room, else its sender keeps it and is told when its turn comes.
void Shard::Hold(const Sender& from, int chunk, const dtrain::ps::Message& message, Effects& effects) {
  const Push& push = std::get<Push>(message.body);
  const auto key = std::pair(chunk, push.work.unit.first_leaf());
  const auto bytes = static_cast<int64_t>(message.elements.size_bytes());
  PushOutcome outcome = PushOutcome::kHeld;
  if (push.work.step == version_ && (held_.contains(key) || held_bytes_ + bytes <= options_.held_bytes_max)) {
    if (!held_.contains(key)) {
      held_[key] = {from, push, {message.elements.begin(), message.elements.end()}};
      held_bytes_ += bytes;
    }
  } else {
    outcome = PushOutcome::kLater;
    if (deferred_.size() < kDeferredMax) deferred_[{push.work.step, chunk, push.work.unit.first_leaf()}] = {from.worker, push.work};
  }
  Say(from.worker, PushAnswer{push.work, push.offset, outcome, version_}, effects);
}

void Shard::Take(const Sender& from, int chunk, const Push& push, std::span<const float> elements, Effects& effects) {
  sums_[chunk].Add(push.work.unit, elements);
  const int64_t staleness = push.work.step - push.read_version;
  effects.taken.push_back({push.work, first_chunk_ + chunk, from, staleness});
  CountStaleness(from.worker, staleness);
  Say(from.worker, PushAnswer{push.work, push.offset, PushOutcome::kTaken, version_}, effects);
}

// Those whose turn has come: what was held is taken, what was put off is called for.
void Shard::TakeHeld(int chunk, Effects& effects) {
  for (auto next = held_.find({chunk, sums_[chunk].next_leaf()}); next != held_.end();
       next = held_.find({chunk, sums_[chunk].next_leaf()})) {
    const HeldPush held = std::move(next->second);
    held_.erase(next);
    held_bytes_ -= static_cast<int64_t>(held.elements.size() * sizeof(float));
    Take(held.sender, chunk, held.push, held.elements, effects);
  }
  if (const auto next = deferred_.find({version_, chunk, sums_[chunk].next_leaf()}); next != deferred_.end()) {
    Say(next->second.worker, PushAnswer{next->second.work, this->chunk(chunk).range.begin, PushOutcome::kNow, version_}, effects);
    deferred_.erase(next);
  }
}

Closed Shard::ReportOf(Step step) const {
  for (const Closed& report : closed_) {
    if (report.step == step) return report;
  }
  return {.step = step, .version = version_, .known = false};
}

void Shard::OnFinish(const Sender& from, const Finish& finish, Effects& effects, TimePoint now) {
  if (finish.step < version_) return TellClosed(from.worker, ReportOf(finish.step), finish.want_parameters, effects, now);
  const LeafRange leaves = finish.unit.leaves();
  if (finish.step > version_ + bound() || leaves.end() > options_.leaves || !(finish.weight >= 0 && std::isfinite(finish.weight))) {
    return Refuse(
        from.worker,
        InvalidArgument("finish step ", finish.step, ": leaves up to ", leaves.end(), ", weight ", finish.weight,
                        "; expected a step up to ", version_ + bound(), ", leaves up to ", options_.leaves, ", a weight of at least 0"),
        effects);
  }
  Round& round = rounds_[finish.step];
  const auto next = round.inputs.lower_bound(leaves.first);
  const bool repeat = next != round.inputs.end() && next->second.unit == finish.unit;
  if (!repeat) {
    const bool overlaps = (next != round.inputs.end() && next->first < leaves.end()) ||
                          (next != round.inputs.begin() && std::prev(next)->second.unit.leaves().end() > leaves.first);
    if (overlaps) {
      return Refuse(from.worker,
                    FailedPrecondition("finish step ", finish.step, ": some leaves of sub-tree (", finish.unit.level, ", ",
                                       finish.unit.index, ") are part of another one"),
                    effects);
    }
    round.inputs[leaves.first] = {finish.unit, finish.weight, finish.loss_sum, finish.finite};
    round.leaves_in += leaves.count;
  }
  bool& wants = round.waiters[from.worker];
  wants = wants || finish.want_parameters;
  if (!round.parts.empty() && !round.square_sum) {
    Say(from.worker, Sums{finish.step, round.parts}, effects);
  } else {
    Say(from.worker, Waiting{finish.step}, effects);
  }
  TryClose(effects, now);
}

void Shard::OnClose(const Sender& from, const Close& close, Effects& effects, TimePoint now) {
  if (close.step < version_) return TellClosed(from.worker, ReportOf(close.step), false, effects, now);
  const auto round = rounds_.find(close.step);
  if (round == rounds_.end() || round->second.parts.empty() || close.square_sum < 0) {
    return Refuse(from.worker, FailedPrecondition("close step ", close.step, ": this server has not told its sums yet"), effects);
  }
  // Everybody joins the same parts, so a second opinion is a mistake or a lie. NaN is equal to itself here.
  std::optional<double>& told = round->second.square_sum;
  if (told && !(*told == close.square_sum || (std::isnan(*told) && std::isnan(close.square_sum)))) {
    return Refuse(from.worker, InvalidArgument("close step ", close.step, ": square sum ", close.square_sum, "; was told ", *told),
                  effects);
  }
  told = close.square_sum;
  Say(from.worker, Waiting{close.step}, effects);
  TryClose(effects, now);
}

void Shard::TryClose(Effects& effects, TimePoint now) {
  const auto found = rounds_.find(version_);
  if (found == rounds_.end() || found->second.leaves_in != options_.leaves) return;
  if (!std::ranges::all_of(sums_, &ChunkSum::complete)) return;
  Round& round = found->second;
  bool finite = true;
  std::vector<SumPart> weights, losses;
  for (const auto& [first, input] : round.inputs) {
    finite = finite && input.finite;
    weights.push_back({input.unit.level, input.unit.index, input.weight});
    losses.push_back({input.unit.level, input.unit.index, input.loss_sum});
  }
  if (finite && needs_norm() && round.parts.empty()) {
    const Chunk &first = chunk(0), &last = chunk(chunk_count() - 1);
    int c = 0;
    round.parts = SumParts(first.first_block, last.end_block, [&](int64_t block) {
      while (chunk(c).end_block <= block) ++c;
      const auto begin = static_cast<size_t>(layout_.blocks[block].begin - chunk(c).range.begin);
      return BlockSquareSum(sums_[c].sum().subspan(begin, static_cast<size_t>(layout_.blocks[block].size())));
    });
    for (const auto& [worker, wants] : round.waiters) Say(worker, Sums{version_, round.parts}, effects);
  }
  if (finite && needs_norm() && !round.square_sum) return;
  Closed report{.step = version_, .version = version_ + 1};
  report.weight = *JoinParts(weights, options_.leaves);
  report.loss_sum = *JoinParts(losses, options_.leaves);
  if (round.square_sum) {
    report.has_square_sum = true;
    report.square_sum = *round.square_sum;
    finite = finite && std::isfinite(*round.square_sum);
    const double divisor = options_.reduce == Reduce::kMean ? report.weight : 1;
    if (finite && divisor > 0) report.norm = std::sqrt(*round.square_sum) / divisor;
  }
  report.applied = finite && report.weight > 0 && !skips_decided_.contains(version_);
  CloseStep(report, effects, now);
}

void Shard::CloseStep(Closed report, Effects& effects, TimePoint now) {
  for (int c = 0; c < chunk_count(); ++c) {
    if (!snapshots_->MayWrite(c, now)) return;  // a reader is not done; Release or Tick go on
  }
  const double divisor = options_.reduce == Reduce::kMean ? report.weight : 1;
  const double clip = options_.clip_norm > 0 ? ClipCoefficient(report.norm, options_.clip_norm) : 1;
  const UpdateScalars scalars{
      .update = updates_ + 1, .learning_rate = options_.learning_rate(version_), .gradient_scale = report.applied ? clip / divisor : 0};
  for (int c = 0; c < chunk_count(); ++c) {
    if (report.applied) {
      ApplyToChunk(c, scalars, sums_[c].sum());
    } else {
      std::ranges::copy(snapshots_->Current(c), snapshots_->Other(c).begin());
    }
    snapshots_->Swap(c, version_ + 1);
    sums_[c].Reset();
  }
  if (report.applied) {
    ++updates_;
  } else {
    effects.decisions.push_back(SkipDecision{version_});
  }
  const Round round = std::move(rounds_.at(version_));
  rounds_.erase(version_);
  ++version_;
  deferred_.erase(deferred_.begin(), deferred_.lower_bound({version_, 0, 0}));
  // Whatever is left lay inside of a larger sub-tree that was taken; it must not wait for a turn in the next step.
  held_.clear();
  held_bytes_ = 0;
  closed_.push_back(report);
  if (static_cast<int64_t>(closed_.size()) > bound() + 2) closed_.pop_front();
  if (options_.checkpoint_every_steps > 0 && version_ % options_.checkpoint_every_steps == 0) effects.save = version_;
  for (const auto& [worker, wants] : round.waiters) TellClosed(worker, report, wants, effects, now);
  for (int c = 0; c < chunk_count(); ++c) {
    AnswerPulls(c, effects, now);
    TakeHeld(c, effects);
  }
}

void Shard::TellClosed(int32_t worker, const Closed& report, bool parameters, Effects& effects, TimePoint now) {
  Say(worker, report, effects);
  if (!parameters) return;
  for (int c = 0; c < chunk_count(); ++c) {
    if (snapshots_->VersionWithin(c, report.version, report.version)) SendParameters(worker, c, report.version, effects, now);
  }
}

}  // namespace dtrain::ps
