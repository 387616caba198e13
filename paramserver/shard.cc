#include "paramserver/shard.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace dtrain::ps {

StalenessRule DefaultStalenessRule(OptimizerType type) {
  return type == OptimizerType::kAdam || type == OptimizerType::kAdamW ? StalenessRule::kSqrt : StalenessRule::kLinear;
}

Status CheckShardOptions(const ShardOptions& options) {
  const auto wrong = [](const auto&... parts) { return InvalidArgument("set up a parameter server: ", parts...); };
  if (options.server < 0 || options.server >= kServersMax) return wrong("server is ", options.server, "; expected 0 to ", kServersMax - 1);
  if (options.staleness_bound < 0 || options.staleness_bound > kStalenessBoundMax) {
    return wrong("staleness is ", options.staleness_bound, "; expected 0 to ", kStalenessBoundMax);
  }
  if (options.staleness_bound != 0 && options.mode != Mode::kStale)
    return wrong("staleness is ", options.staleness_bound, " without mode ssp; expected 0");
  if (options.leaves < 1 || options.leaves > kLeavesMax) return wrong(options.leaves, " leaves; expected 1 to ", kLeavesMax);
  if (options.backup_workers && options.mode != Mode::kSync) return wrong("backup workers without mode sync");
  if (!(options.clip_norm >= 0 && std::isfinite(options.clip_norm)))
    return wrong("clip_norm is ", options.clip_norm, "; expected a number of at least 0");
  if (options.groups.empty() || options.groups.size() > static_cast<size_t>(kGroupsMax)) {
    return wrong(options.groups.size(), " parameter groups; expected 1 to ", kGroupsMax);
  }
  if (options.updates_per_step < 1) return wrong(options.updates_per_step, " updates a step; expected at least 1");
  if (options.held_bytes_max < 0) return wrong("held_bytes_max is ", options.held_bytes_max, "; expected at least 0");
  if (options.lease <= Duration::zero()) return wrong("the lease is not positive");
  return MakeOptimizer(options.optimizer).status();
}

Shard::Shard(ShardOptions options, const std::vector<Decision>& decisions) : options_(std::move(options)) {
  DTRAIN_CHECK(CheckShardOptions(options_).ok());
  optimizer_ = std::move(*MakeOptimizer(options_.optimizer));
  std::vector<GrantDecision> grants;
  for (const Decision& decision : decisions) {
    if (const auto* skip = std::get_if<SkipDecision>(&decision)) skips_decided_.insert(skip->step);
    if (const auto* grant = std::get_if<GrantDecision>(&decision)) grants.push_back(*grant);
  }
  if (options_.backup_workers && options_.server == 0) grants_.emplace(options_.leaves, grants);
}

Effects Shard::Receive(int32_t from, const Message& message, TimePoint now) {
  Effects effects;
  received_ = &message;
  if (Fenced(from, message, effects)) return effects;
  const Sender& sender = message.sender;
  if (from == kNoWorker) {
    OnOpenView(message, effects);
  } else if (const auto* table = std::get_if<Register>(&message.body)) {
    OnRegister(sender, *table, effects);
  } else if (table_.version == 0) {
    Say(from, Registered{}, effects);  // nobody has registered yet; the sender asks again
  } else if (sender.table != table_.version) {
    Say(from, WrongTable{table_}, effects);
  } else if (std::holds_alternative<Initial>(message.body)) {
    OnInitial(sender, message, effects);
  } else if (!ready_) {
    Say(from, Registered{}, effects);
  } else if (std::holds_alternative<Push>(message.body)) {
    options_.mode == Mode::kAsync ? OnPushAsync(sender, message, effects, now) : OnPush(sender, message, effects, now);
  } else if (const auto* pull = std::get_if<Pull>(&message.body)) {
    OnPull(sender, *pull, effects, now);
  } else if (const auto* finish = std::get_if<Finish>(&message.body); finish != nullptr && options_.mode != Mode::kAsync) {
    OnFinish(sender, *finish, effects, now);
  } else if (const auto* close = std::get_if<Close>(&message.body); close != nullptr && options_.mode != Mode::kAsync) {
    OnClose(sender, *close, effects, now);
  } else if (const auto* claim = std::get_if<Claim>(&message.body); claim != nullptr && grants_) {
    OnClaim(sender, *claim, effects);
  } else {
    Refuse(from, InvalidArgument("a ", NameOf(message), " has no business with this server"), effects);
  }
  return effects;
}

Effects Shard::Tick(TimePoint now) {
  Effects effects;
  if (ready_ && options_.mode != Mode::kAsync) TryClose(effects, now);
  return effects;
}

Effects Shard::Release(Pin pin, TimePoint now) {
  if (snapshots_) snapshots_->Release(pin);
  return Tick(now);
}

// True if the message goes no further.
bool Shard::Fenced(int32_t from, const Message& message, Effects& effects) {
  const Sender& sender = message.sender;
  if (sender.job != options_.job) {
    Refuse(from, PermissionDenied("a ", NameOf(message), " of another job came to server ", options_.server), effects);
    return true;
  }
  if (sender.worker != from) {
    Refuse(from, PermissionDenied("a ", NameOf(message), " in the name of worker ", sender.worker, " came from ", from), effects);
    return true;
  }
  const bool opens_view = std::holds_alternative<OpenView>(message.body);
  if (opens_view != (from == kNoWorker)) {
    Refuse(from, PermissionDenied("a ", NameOf(message), " from a peer that may not send one"), effects);
    return true;
  }
  if (opens_view) return false;
  const auto member = members_.find(from);
  if (sender.view != view_ || member == members_.end() || member->second != sender.incarnation) {
    // A view that is newer than ours has not been told to us yet: the sender sees by our number that it must wait.
    Say(from, WrongView{sender.view}, effects);
    return true;
  }
  return false;
}

void Shard::OnOpenView(const Message& message, Effects& effects) {
  if (message.sender.view > view_) {
    view_ = message.sender.view;
    members_.clear();
    member_numbers_.clear();
    for (const Member& member : std::get<OpenView>(message.body).members) {
      members_[member.worker] = member.incarnation;
      member_numbers_.insert(member.worker);
    }
    // Whoever waits says so again in the new view. What was counted stays counted; what was only held comes again.
    held_.clear();
    held_bytes_ = 0;
    deferred_.clear();
    pulls_.clear();
    for (auto& [step, round] : rounds_) round.waiters.clear();
    if (grants_) {
      for (const GrantDecision& grant : grants_->Reassign(member_numbers_)) {
        effects.decisions.push_back(grant);
        Say(grant.worker, Granted{grant.step, grant.slot}, effects);
      }
    }
  }
  Say(kNoWorker, ViewTaken{ready_ ? version_ : -1}, effects);
}

void Shard::OnRegister(const Sender& from, const Register& message, Effects& effects) {
  if (table_.version == 0) {
    if (from.worker != 0) return Say(from.worker, Registered{}, effects);
    Status status = CheckTable(message.table, static_cast<int>(options_.groups.size()));
    if (status.ok()) status = Adopt(message.table);
    if (!status.ok()) return Refuse(from.worker, status, effects);
  }
  if (const Status same = CompareTensors(table_, message.table); !same.ok()) return Refuse(from.worker, same, effects);
  if (message.table != table_) return Say(from.worker, WrongTable{table_}, effects);
  Say(from.worker, Registered{ready_, version_}, effects);
}

// Changes nothing unless it is OK.
Status Shard::Adopt(const Table& table) {
  if (options_.server >= table.servers) {
    return InvalidArgument("register the parameter table: cut over ", table.servers, " servers; this is server ", options_.server);
  }
  // Asked before anything is made of the table: it may name more than any machine has.
  int64_t elements_in_all = 0;
  for (const TableEntry& entry : table.entries) elements_in_all += entry.info.elements();
  const auto copies = static_cast<int64_t>(3 + optimizer_->slot_names().size());
  const int64_t bytes = elements_in_all / table.servers * static_cast<int64_t>(sizeof(float)) * copies;
  if (bytes > options_.shard_bytes_max) {
    return WithHint(
        ResourceExhausted("register the parameter table: server ", options_.server, " would need ", HumanBytes(static_cast<double>(bytes)),
                          "; it may take ", HumanBytes(static_cast<double>(options_.shard_bytes_max))),
        "use more servers");
  }
  table_ = table;
  layout_ = table.layout();
  sharding_ = PlanSharding(table_, layout_);
  std::tie(first_chunk_, end_chunk_) = sharding_.chunks_of(options_.server);
  groups_of_block_.clear();
  size_t entry = 0;
  for (const ElementRange& block : layout_.blocks) {
    while (layout_.entries[entry].range().end <= block.begin) ++entry;
    groups_of_block_.push_back(layout_.entries[entry].group);
  }
  std::vector<int64_t> elements;
  sums_.clear();
  slots_.clear();
  for (int c = first_chunk_; c < end_chunk_; ++c) {
    elements.push_back(sharding_.chunks[c].range.size());
    sums_.emplace_back(options_.leaves, elements.back());
    auto& slots = slots_.emplace_back();
    for (size_t slot = 0; slot < optimizer_->slot_names().size(); ++slot) {
      slots.emplace_back(static_cast<size_t>(elements.back()), static_cast<float>(optimizer_->slot_initial(static_cast<int>(slot))));
    }
  }
  initialised_.assign(elements.size(), false);
  work_ = WorkLog(static_cast<int>(elements.size()));
  snapshots_.emplace(elements, options_.lease);
  return OkStatus();
}

StatusOr<int> Shard::FindChunk(int64_t offset, int64_t elements) const {
  const int found = sharding_.chunk_at(offset);
  if (found < first_chunk_ || found >= end_chunk_) {
    return InvalidArgument("no chunk of server ", options_.server, " begins at element ", offset);
  }
  if (elements >= 0 && elements != sharding_.chunks[found].range.size()) {
    return InvalidArgument("the chunk at element ", offset, " came with ", elements, " elements; expected ",
                           sharding_.chunks[found].range.size());
  }
  return found - first_chunk_;
}

void Shard::OnInitial(const Sender& from, const Message& message, Effects& effects) {
  const int64_t offset = std::get<Initial>(message.body).offset;
  const auto chunk = FindChunk(offset, static_cast<int64_t>(message.elements.size()));
  if (!chunk.ok()) return Refuse(from.worker, chunk.status(), effects);
  if (from.worker != 0)
    return Refuse(from.worker, PermissionDenied("initial values from worker ", from.worker, "; expected worker 0's"), effects);
  if (!ready_ && !initialised_[*chunk]) {
    snapshots_->Place(*chunk, message.elements, 0);
    initialised_[*chunk] = true;
    ready_ = std::ranges::all_of(initialised_, std::identity{});
    if (ready_) version_ = 0;
  }
  Say(from.worker, InitialTaken{offset}, effects);
}

void Shard::OnPull(const Sender& from, const Pull& pull, Effects& effects, TimePoint now) {
  const auto found = FindChunk(pull.offset, -1);
  if (!found.ok()) return Refuse(from.worker, found.status(), effects);
  if (const auto version = snapshots_->VersionWithin(*found, pull.min_version, pull.max_version)) {
    return SendParameters(from.worker, *found, *version, effects, now);
  }
  if (const int64_t newest = snapshots_->version(*found); pull.min_version <= newest) {
    return Say(from.worker, Passed{pull.offset, newest}, effects);
  }
  if (pulls_.size() < kDeferredMax) pulls_[{from.worker, *found}] = pull;
  Say(from.worker, PullLater{pull.offset}, effects);
}

void Shard::AnswerPulls(int chunk, Effects& effects, TimePoint now) {
  std::erase_if(pulls_, [&](const auto& waiting) {
    if (waiting.first.second != chunk) return false;
    const auto version = snapshots_->VersionWithin(chunk, waiting.second.min_version, waiting.second.max_version);
    if (!version) return false;
    SendParameters(waiting.first.first, chunk, *version, effects, now);
    return true;
  });
}

void Shard::OnClaim(const Sender& from, const Claim& claim, Effects& effects) {
  if (claim.step > version_) {
    return Refuse(from.worker, FailedPrecondition("claim a place in step ", claim.step, ": the open step is ", version_), effects);
  }
  const Grants::Answer answer = grants_->Claim(claim.step, version_, from.worker, member_numbers_);
  if (answer.fresh) effects.decisions.push_back(GrantDecision{claim.step, answer.slot, from.worker});
  Say(from.worker, Granted{claim.step, answer.slot}, effects);
}

void Shard::Say(int32_t to, Body body, Effects& effects) const {
  effects.messages.push_back({to, {{options_.job, view_, kNoWorker, options_.incarnation, table_.version}, std::move(body), {}}, 0});
}

void Shard::Refuse(int32_t to, const Status& status, Effects& effects) const { Say(to, RefusalOf(*received_, status), effects); }

void Shard::SendParameters(int32_t to, int chunk, int64_t version, Effects& effects, TimePoint now) {
  const auto pin = snapshots_->Hold(chunk, version, now);
  const int64_t offset = this->chunk(chunk).range.begin;
  if (!pin.ok()) return Say(to, PullLater{offset}, effects);  // too many readers: it will ask again
  Say(to, Parameters{version, offset}, effects);
  effects.messages.back().message.elements = snapshots_->Read(*pin);
  effects.messages.back().pin = *pin;
}

void Shard::ApplyToChunk(int chunk, const UpdateScalars& scalars, std::span<const float> gradient) {
  const Chunk& where = this->chunk(chunk);
  const auto from = snapshots_->Current(chunk);
  const auto to = snapshots_->Other(chunk);
  // Block by block: what is copied is still in the cache when it is updated.
  for (int b = where.first_block; b < where.end_block; ++b) {
    const auto begin = static_cast<size_t>(layout_.blocks[b].begin - where.range.begin);
    const auto count = static_cast<size_t>(layout_.blocks[b].size());
    std::ranges::copy(from.subspan(begin, count), to.begin() + static_cast<std::ptrdiff_t>(begin));
    std::vector<std::span<float>> slots;
    for (std::vector<float>& slot : slots_[chunk]) slots.push_back(std::span(slot).subspan(begin, count));
    optimizer_->Apply(scalars, options_.groups[groups_of_block_[b]], to.subspan(begin, count), gradient.subspan(begin, count), slots);
  }
}

ShardState Shard::Export() const {
  DTRAIN_CHECK(ready_);
  ShardState state{.table = table_, .server = options_.server, .version = version_, .updates = updates_};
  state.slots.resize(optimizer_->slot_names().size());
  for (int c = 0; c < end_chunk_ - first_chunk_; ++c) {
    state.chunk_versions.push_back(snapshots_->version(c));
    const auto parameters = snapshots_->Current(c);
    state.parameters.insert(state.parameters.end(), parameters.begin(), parameters.end());
    for (size_t slot = 0; slot < state.slots.size(); ++slot) {
      state.slots[slot].insert(state.slots[slot].end(), slots_[c][slot].begin(), slots_[c][slot].end());
    }
  }
  state.work = work_;
  return state;
}

Status Shard::Restore(const ShardState& state, int64_t view) {
  const auto wrong = [&](const auto&... parts) { return FailedPrecondition("restore server ", options_.server, ": ", parts...); };
  DTRAIN_CHECK(!ready_ && table_.version == 0);
  if (state.server != options_.server) return wrong("the state is of server ", state.server);
  RETURN_IF_ERROR(CheckTable(state.table, static_cast<int>(options_.groups.size())));
  RETURN_IF_ERROR(Adopt(state.table));
  const auto elements = static_cast<size_t>(sharding_.of_server[options_.server].size());
  const auto chunks = static_cast<size_t>(end_chunk_ - first_chunk_);
  if (state.parameters.size() != elements) return wrong(state.parameters.size(), " parameters; expected ", elements);
  if (state.slots.size() != optimizer_->slot_names().size()) {
    return wrong(state.slots.size(), " optimizer slots; expected ", optimizer_->slot_names().size());
  }
  if (state.chunk_versions.size() != chunks) return wrong(state.chunk_versions.size(), " chunks; expected ", chunks);
  for (const auto& slot : state.slots) {
    if (slot.size() != elements) return wrong("a slot of ", slot.size(), " elements; expected ", elements);
  }
  for (size_t c = 0; c < chunks; ++c) {
    const auto begin = static_cast<size_t>(chunk(static_cast<int>(c)).range.begin - sharding_.of_server[options_.server].begin);
    const auto count = static_cast<size_t>(chunk(static_cast<int>(c)).range.size());
    snapshots_->Place(static_cast<int>(c), std::span(state.parameters).subspan(begin, count), state.chunk_versions[c]);
    for (size_t slot = 0; slot < state.slots.size(); ++slot) {
      std::ranges::copy(std::span(state.slots[slot]).subspan(begin, count), slots_[c][slot].begin());
    }
  }
  initialised_.assign(chunks, true);
  ready_ = true;
  version_ = state.version;
  updates_ = state.updates;
  if (options_.mode == Mode::kAsync) work_ = state.work;
  view_ = view;
  return OkStatus();
}

}  // namespace dtrain::ps
