// Servers of the simulation: a shard with its journal, outbox and disk, and the model that checks it.
#include <algorithm>

#include "optim/accumulate.h"
#include "tests/paramserver/simulation.h"

namespace dtrain::ps {

using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {
constexpr char kDirectory[] = "job";
}

void Simulation::StartServer(int number) {
  Server& server = servers_[number];
  server.up = true;
  ++server.incarnation;
  auto journal = Journal::Open(*server.storage, kDirectory, plan_.shard.job, number);
  if (!journal.ok()) {
    if (journal.status().code() != StatusCode::kUnavailable) Fault(Cat("server ", number, ": ", dtrain::Message(journal.status())));
    return CrashServer(number);
  }
  server.journal = *std::move(journal);
  server.outbox = std::make_unique<Outbox>(*server.journal, plan_.journal_group);
  // It says that it is there; what it had in memory is gone, so the job rolls back.
  At(Between(microseconds(100), plan_.delay_max), [this] {
    if (coordinator_up_) StartView(true);
  });
}

void Simulation::CrashServer(int number) {
  Server& server = servers_[number];
  if (!server.up) return;
  ++counts_["server crashes"];
  server.up = false;
  server.shard.reset();
  server.outbox.reset();
  server.journal.reset();
  server.storage->PowerCut(rng_.Next64());
  server.storage->CrashAt(INT64_MAX);
  At(Between(milliseconds(1), milliseconds(60)), [=, this] { StartServer(number); });
}

// As the coordinator says: from the checkpoint that all hold, or from nothing.
void Simulation::LoadServer(int number, int64_t view, std::optional<Manifest> manifest) {
  Server& server = servers_[number];
  if (view != view_ || server.journal == nullptr) return;
  ShardOptions options = plan_.shard;
  options.server = number;
  options.incarnation = server.incarnation;
  server.shard = std::make_unique<Shard>(options, server.journal->decisions());
  server.outbox = std::make_unique<Outbox>(*server.journal, plan_.journal_group);
  ++server.loads;
  server.gradients.clear();
  server.counted.clear();
  server.version = -1;
  server.model = std::make_unique<SerialRun>(plan_.table, options);
  const auto [first, end] = sharding_.chunks_of(number);
  server.chunk_versions.assign(static_cast<size_t>(end - first), 0);
  if (manifest) {
    const auto state = ReadPart(*server.storage, kDirectory, options.job, manifest->step, manifest->parts.at(static_cast<size_t>(number)));
    if (state.status().code() == StatusCode::kUnavailable) return CrashServer(number);
    if (!state.ok()) return Fault(Cat("server ", number, " lacks what the manifest promises: ", dtrain::Message(state.status())));
    if (const Status restored = server.shard->Restore(*state, manifest->view); !restored.ok()) return Fault(dtrain::Message(restored));
    server.version = server.shard->version();
    server.chunk_versions = state->chunk_versions;
    const size_t begin = static_cast<size_t>(sharding_.of_server[number].begin);
    std::ranges::copy(state->parameters, server.model->parameters.begin() + static_cast<std::ptrdiff_t>(begin));
    for (size_t slot = 0; slot < state->slots.size(); ++slot) {
      std::ranges::copy(state->slots[slot], server.model->slots[slot].begin() + static_cast<std::ptrdiff_t>(begin));
    }
    server.model->updates = state->updates;
    for (int64_t lease = 0; lease < plan_.leases; ++lease) {
      for (int c = first; c < end; ++c) {
        if (state->work.Applied({0, lease}, c - first)) server.counted.insert({0, lease, 0, c});
      }
    }
    if (plan_.mode != Mode::kAsync) {
      if (const auto saved = server.saved.find(server.version);
          saved == server.saved.end() || saved->second.parameters != state->parameters) {
        Fault(Cat("server ", number, ": the checkpoint of step ", server.version, " is not what the step was"));
      }
    }
  }
  OpenView open;
  for (const auto& [worker, incarnation] : members_) open.members.push_back({worker, incarnation});
  Carry(number, server.shard->Receive(kNoWorker, {{options.job, view, kNoWorker, 0, 0}, open, {}}, now_));
}

void Simulation::ServerReceives(int number, int from, const std::vector<std::byte>& bytes) {
  Server& server = servers_[number];
  if (server.shard == nullptr) return;
  const auto message = Decode(bytes);
  if (!message.ok()) return Fault(Cat("server ", number, " got damaged bytes: ", dtrain::Message(message.status())));
  if (const auto* push = std::get_if<Push>(&message->body)) {
    arrived_[{sharding_.chunk_at(push->offset), push->work.step, push->work.unit.first_leaf(), from, message->sender.incarnation,
              message->sender.view}] = {message->elements.begin(), message->elements.end()};
    if (plan_.mode == Mode::kAsync) {  // taken at once or not at all: what the model needs of it
      const int chunk = sharding_.chunk_at(push->offset);
      const int64_t version = server.chunk_versions[static_cast<size_t>(chunk - sharding_.chunks_of(number).first)];
      const auto staleness = static_cast<double>(std::max<int64_t>(1, version - push->read_version));
      const double divisor = plan_.shard.optimizer.type == OptimizerType::kAdam ? std::sqrt(staleness) : staleness;
      const UpdateScalars scalars{.update = version + 1,
                                  .learning_rate = plan_.shard.learning_rate(version / plan_.workers) / divisor,
                                  .gradient_scale = push->scale};
      Effects effects = server.shard->Receive(from, *message, now_);
      if (!effects.taken.empty()) {
        ApplyModel(server, chunk, scalars, message->elements);
        ++server.chunk_versions[static_cast<size_t>(chunk - sharding_.chunks_of(number).first)];
      }
      return Carry(number, std::move(effects));
    }
  }
  Carry(number, server.shard->Receive(from == kCoordinator ? kNoWorker : from, *message, now_));
}

void Simulation::Carry(int number, Effects effects) {
  Server& server = servers_[number];
  for (const TakenWork& taken : effects.taken) CheckTaken(number, taken);
  if (server.shard->ready()) CheckVersion(number);
  const std::optional<Step> save = effects.save;
  if (const Status put = server.outbox->Put(std::move(effects), now_); !put.ok()) return CrashServer(number);
  if (save) SaveServer(number, *save);
  if (server.up) Flush(number);
}

void Simulation::Flush(int number) {
  Server& server = servers_[number];
  if (server.outbox == nullptr || server.shard == nullptr) return;
  auto messages = server.outbox->Take(now_);
  if (!messages.ok()) return CrashServer(number);
  for (Outgoing& outgoing : *messages) {
    const int to = outgoing.to == kNoWorker ? kCoordinator : outgoing.to;
    if (outgoing.pin == 0) {
      Transmit(100 + number, to, Encode(outgoing.message));
      continue;
    }
    // Some readers are slow; the slowest come after their lease and may find nothing left to read.
    const Duration slow = Chance(0.03) ? Between(milliseconds(1), milliseconds(60)) : Duration(0);
    const auto write = [this, number, to, message = outgoing.message, pin = outgoing.pin, load = server.loads]() mutable {
      Server& it = servers_[number];
      if (!it.up || it.loads != load || it.shard == nullptr) return;
      message.elements = it.shard->Read(pin);
      if (message.elements.empty()) {
        ++counts_["reads too late"];
      } else {
        Transmit(100 + number, to, Encode(message));
      }
      Effects effects = it.shard->Release(pin, now_);
      if (!effects.messages.empty() || !effects.taken.empty() || !effects.decisions.empty()) Carry(number, std::move(effects));
    };
    if (slow == Duration(0)) {
      auto now = write;
      now();
      if (!server.up || server.shard == nullptr) return;
    } else {
      ++counts_["slow readers"];
      At(slow, write);
    }
  }
  // The clock of the shard and of the journal's group.
  const TimePoint next = std::min(server.outbox->NextSync(), now_ + milliseconds(20));
  if (next < server.wakes || server.wakes <= now_) {
    server.wakes = next;
    At(next - now_, [this, number, next] {
      Server& it = servers_[number];
      if (it.wakes != next) return;
      it.wakes = TimePoint::max();
      if (!it.up || it.shard == nullptr) return;
      Carry(number, it.shard->Tick(now_));
    });
  }
}

void Simulation::CheckTaken(int number, const TakenWork& taken) {
  Server& server = servers_[number];
  ++counts_["work taken"];
  const Work& work = taken.work;
  const std::string what = Cat("work (", work.epoch, ", ", work.step, ", leaf ", work.unit.first_leaf(), ", chunk ", taken.chunk,
                               ") of worker ", taken.sender.worker);
  if (!server.counted.insert({work.epoch, work.step, work.unit.first_leaf(), taken.chunk}).second)
    return Fault(what + " was counted twice");
  const auto member = members_.find(taken.sender.worker);
  if (taken.sender.view != server.shard->view())
    return Fault(Cat(what, " of view ", taken.sender.view, " was counted in view ", server.shard->view()));
  // In the newest view the coordinator's list is the truth; an older one is checked by its number.
  if (server.shard->view() == view_ && (member == members_.end() || member->second != taken.sender.incarnation)) {
    return Fault(what + " was counted though its sender is no member");
  }
  if (plan_.mode == Mode::kAsync) return;
  if (taken.staleness < 0 || taken.staleness > plan_.shard.staleness_bound) return Fault(Cat(what, " has staleness ", taken.staleness));
  if (taken.staleness > 0) ++counts_["stale work"];
  const auto payload =
      arrived_.find({taken.chunk, work.step, work.unit.first_leaf(), taken.sender.worker, taken.sender.incarnation, taken.sender.view});
  if (payload == arrived_.end()) return Fault(what + " was never sent");
  server.gradients[{taken.chunk, work.step}][work.unit.first_leaf()] = {work.unit, payload->second};
}

void Simulation::ApplyModel(Server& server, int chunk, const UpdateScalars& scalars, std::span<const float> gradient) {
  const Chunk& where = sharding_.chunks[static_cast<size_t>(chunk)];
  for (int b = where.first_block; b < where.end_block; ++b) {
    const ElementRange block = layout_.blocks[static_cast<size_t>(b)];
    const auto begin = static_cast<size_t>(block.begin), count = static_cast<size_t>(block.size());
    std::vector<std::span<float>> slots;
    for (auto& slot : server.model->slots) slots.push_back(std::span(slot).subspan(begin, count));
    server.model->optimizer->Apply(scalars, plan_.shard.groups[0], std::span(server.model->parameters).subspan(begin, count),
                                   gradient.subspan(begin - static_cast<size_t>(where.range.begin), count), slots);
  }
}

void Simulation::CheckVersion(int number) {
  Server& server = servers_[number];
  const Shard& shard = *server.shard;
  const auto [first, end] = sharding_.chunks_of(number);
  const auto range = sharding_.of_server[static_cast<size_t>(number)];
  const auto of_server = [&](const std::vector<float>& flat) {
    return std::vector<float>(flat.begin() + range.begin, flat.begin() + range.end);
  };
  const auto check = [&](std::span<const float> flat, const char* what) {
    for (int c = first; c < end; ++c) {
      const ElementRange chunk = sharding_.chunks[static_cast<size_t>(c)].range;
      if (!SameBits(shard.ChunkParameters(c), flat.subspan(static_cast<size_t>(chunk.begin), static_cast<size_t>(chunk.size())))) {
        return Fault(Cat("server ", number, ", chunk ", c, ", version ", shard.chunk_version(c), " differs from ", what));
      }
    }
  };
  if (plan_.mode == Mode::kAsync) return check(server.model->parameters, "the model");
  if (shard.version() < server.version)
    return Fault(Cat("server ", number, " went from version ", server.version, " to ", shard.version()));
  if (server.version == -1) {
    server.version = 0;
    server.saved[0] = {of_server(server.model->parameters), {}, 0};
  }
  while (server.version < shard.version()) {
    const Step step = server.version;
    if (shard.version() != step + 1) return Fault(Cat("server ", number, " closed more than one step at once"));
    double weight = 0;
    std::map<int, std::vector<float>> sums;
    for (int c = first; c < end; ++c) {
      const auto& units = server.gradients[{c, step}];
      std::vector<const float*> operands;
      std::vector<SubTree> owned;
      weight = 0;
      for (const auto& [leaf, unit] : units) {
        operands.push_back(unit.second.data());
        owned.push_back(unit.first);
        weight += plan_.backup ? kBackupWeight : UnitWeight(step, unit.first);
      }
      int64_t leaves = 0;
      for (const SubTree& unit : owned) leaves += unit.leaf_count();
      if (leaves != plan_.shard.leaves)
        return Fault(Cat("server ", number, " closed step ", step, " with ", leaves, " leaves in chunk ", c));
      sums[c].resize(static_cast<size_t>(sharding_.chunks[static_cast<size_t>(c)].range.size()));
      const TreeSumPlan plan = plan_.backup ? PlanTreeSum(plan_.shard.leaves) : PlanTreeSum(owned);
      TreeSumBlock(plan, operands, static_cast<int64_t>(sums[c].size()), sums[c].data());
    }
    if (plan_.mode == Mode::kStale || plan_.backup) {
      ++server.model->updates;
      for (int c = first; c < end; ++c) {
        ApplyModel(server, c,
                   {.update = server.model->updates, .learning_rate = plan_.shard.learning_rate(step), .gradient_scale = 1 / weight},
                   sums[c]);
      }
      check(server.model->parameters, "the model");
      if (plan_.mode == Mode::kStale && plan_.shard.staleness_bound == 0 && serial_.empty()) {
        SerialRun serial(plan_.table, plan_.shard);
        serial_.push_back(serial.parameters);
        for (Step s = 0; s < plan_.steps; ++s) {
          serial.Run(s, plan_.shard);
          serial_.push_back(serial.parameters);
        }
      }
    }
    if (!serial_.empty()) {
      check(serial_[static_cast<size_t>(step + 1)], "the serial run");
      server.model->parameters = serial_[static_cast<size_t>(step + 1)];
    }
    if (plan_.backup && !plan_.worker_faults) {
      // Only servers failed: what was decided before the rollback is decided again.
      const auto again = server.closed_as.find(step + 1);
      const auto as = of_server(server.model->parameters);
      if (again == server.closed_as.end()) {
        server.closed_as[step + 1] = as;
      } else {
        ++counts_["steps recomputed with backup workers"];
        if (again->second != as) Fault(Cat("server ", number, " decided step ", step, " another way after a rollback"));
      }
    }
    ++server.version;
    server.saved[server.version] = {of_server(server.model->parameters), {}, server.model->updates};
    ++counts_["steps closed"];
  }
}

void Simulation::SaveServer(int number, Step step) {
  Server& server = servers_[number];
  ShardState state = server.shard->Export();
  state.version = step;
  const auto info = WritePart(*server.storage, kDirectory, plan_.shard.job, state);
  if (!info.ok()) return CrashServer(number);
  At(Between(microseconds(100), plan_.delay_max),
     [this, number, step, info = *info, view = server.shard->view()] { PartWritten(number, step, info, view); });
}

}  // namespace dtrain::ps
