// Workers of the simulation, and the coordinator that opens their views.
#include <algorithm>

#include "tests/paramserver/simulation.h"

namespace dtrain::ps {

using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {
constexpr char kDirectory[] = "job";
}

void Simulation::StartWorker(int number) {
  Worker& worker = workers_[number];
  const uint64_t incarnation = worker.incarnation + 1;
  static_cast<Process&>(worker) = {
      .up = true, .incarnation = incarnation, .paused_until = worker.paused_until, .cut_until = worker.cut_until};
  worker.client.reset();
  worker.view = worker.generation = 0;
  worker.step = -1;
  worker.computed = worker.turned_away = worker.done = false;
  worker.pushed.clear();
  worker.lease.reset();
  worker.wakes = TimePoint::max();
  Reach(number, [=, this] {
    if (workers_[number].incarnation == incarnation) WorkerArrives(number, incarnation);
  });
}

void Simulation::CrashWorker(int number) {
  Worker& worker = workers_[number];
  if (!worker.up) return;
  ++counts_["worker crashes"];
  worker.up = false;
  worker.client.reset();
  const uint64_t incarnation = worker.incarnation;
  At(milliseconds(60), [=, this] { WorkerLost(number, incarnation); });
  At(Between(milliseconds(1), milliseconds(150)), [=, this] { StartWorker(number); });
}

void Simulation::HearTell(int number, const Tell& tell) {
  Worker& worker = workers_[number];
  if (worker.incarnation != tell.incarnation || tell.view <= worker.view) return;
  worker.view = tell.view;
  worker.units = tell.units;
  const bool fresh = worker.client == nullptr;
  if (fresh) {
    ClientOptions options = plan_.client;
    options.worker = number;
    worker.client = std::make_unique<Client>(options, plan_.table, number == 0 ? InitialParameters(layout_) : std::vector<float>());
  }
  if (fresh || worker.generation != tell.generation) {
    worker.generation = tell.generation;
    worker.start = worker.closed_below = tell.start;
    worker.step = -1;
    worker.computed = worker.turned_away = worker.done = false;
    worker.pushed.clear();
    worker.lease.reset();
    worker.client->Restart();
    worker.client->SetView(tell.view, tell.incarnation, now_);
    worker.client->Join(now_);
  } else {
    worker.client->SetView(tell.view, tell.incarnation, now_);
    TakeOver(number);
  }
  PumpWorker(number);
}

void Simulation::PumpWorker(int number) {
  Worker& worker = workers_[number];
  for (;;) {
    if (worker.client == nullptr) return;
    const auto events = worker.client->TakeEvents();
    for (const ClientSend& send : worker.client->TakeSends()) {
      Transmit(number, 100 + send.server, Encode(send.message));
      if (worker.client->bytes_under_way(send.server) > plan_.client.window_bytes + 64)
        Fault(Cat("worker ", number, " has more under way than its window"));
    }
    if (events.empty()) break;
    for (const ClientEvent& event : events) {
      OnEvent(number, event);
      if (worker.client == nullptr || !worker.up) return;
    }
  }
  const TimePoint next = worker.client->NextTick();
  if (next == TimePoint::max() || (worker.wakes > now_ && worker.wakes <= next)) return;
  worker.wakes = std::max(next, now_);
  At(worker.wakes - now_, [this, number, at = worker.wakes, incarnation = worker.incarnation] {
    Worker& it = workers_[number];
    if (it.wakes != at || it.incarnation != incarnation || it.client == nullptr) return;
    it.wakes = TimePoint::min();
    if (it.paused_until > now_) {
      it.wakes = it.paused_until;
      return At(it.paused_until - now_, [this, number, incarnation] {
        Worker& later = workers_[number];
        if (later.incarnation != incarnation || later.client == nullptr) return;
        later.wakes = TimePoint::min();
        later.client->Tick(now_);
        PumpWorker(number);
      });
    }
    it.client->Tick(now_);
    PumpWorker(number);
  });
}

void Simulation::OnEvent(int number, const ClientEvent& event) {
  Worker& worker = workers_[number];
  if (std::holds_alternative<Joined>(event)) {
    worker.client->Await(plan_.mode == Mode::kAsync ? 0 : worker.start, now_);
  } else if (const auto* ready = std::get_if<ParametersReady>(&event)) {
    if (plan_.mode == Mode::kAsync) return AskForLease(number);
    ++counts_["parameters read"];
    if (ready->step <= worker.step)
      return Fault(Cat("worker ", number, " got the parameters of step ", ready->step, " after ", worker.step));
    if (!plan_.backup && worker.step >= 0 && ready->step != worker.step + 1) return Fault(Cat("worker ", number, " skipped a step"));
    const int64_t bound = plan_.shard.staleness_bound;
    // Ahead only after a restart, of a server that has closed those steps already.
    if (ready->version_max > ready->step + (bound > 0 ? bound + 1 : 0) || ready->version_min < ready->step - bound) {
      return Fault(Cat("worker ", number, " computes step ", ready->step, " on versions ", ready->version_min, " to ", ready->version_max));
    }
    worker.step = ready->step;
    worker.computed = worker.turned_away = false;
    // Nobody is further ahead of the slowest work than the bound: all steps before are closed on every server.
    for (const Server& server : servers_) {
      if (server.shard == nullptr || worker.generation != generation_ || server.shard->view() != view_) continue;
      if (server.shard->version() < worker.step - bound)
        Fault(Cat("worker ", number, " is at step ", worker.step, ", a server at ", server.shard->version()));
    }
    if (worker.step >= plan_.steps) {
      worker.done = true;
      return;
    }
    Compute(number);
  } else if (const auto* closed = std::get_if<StepClosed>(&event)) {
    ++counts_["answers seen"];
    worker.closed_below = std::max(worker.closed_below, closed->report.step + 1);
    if (!closed->report.applied) ++counts_["steps skipped"];
    if (closed->report.norm > plan_.shard.clip_norm && plan_.shard.clip_norm > 0) ++counts_["steps clipped"];
    if (closed->report.applied == (plan_.shard.skip_non_finite && closed->report.step % 3 == 1))
      Fault("a step was skipped or not against the policy");
  } else if (const auto* taken = std::get_if<PushTaken>(&event)) {
    const int64_t lease = taken->work.step, generation = worker.generation;
    At(Between(microseconds(50), plan_.delay_max), [=, this] {
      if (generation != generation_ || !coordinator_up_) return;
      leases_done_.insert(lease);
      leases_pending_.erase(lease);
      leases_out_.erase(lease);
    });
  } else if (const auto* claimed = std::get_if<ClaimAnswered>(&event)) {
    if (claimed->step != worker.step || !worker.computed) return;
    if (claimed->slot >= 0) {
      if (!worker.pushed.contains({worker.step, claimed->slot})) {
        PushUnit(number, worker.step, {0, claimed->slot});
        worker.client->Await(worker.step + 1, now_);
      }
    } else if (!worker.turned_away) {
      ++counts_["turned away"];
      worker.turned_away = true;
      worker.client->Await(worker.step + 1, now_);
    }
  } else if (const auto* failed = std::get_if<ClientFailed>(&event)) {
    if (failed->status.code() != StatusCode::kDeadlineExceeded)
      return Fault(Cat("worker ", number, " failed: ", dtrain::Message(failed->status)));
    ++counts_["workers that gave up"];
    CrashWorker(number);
  } else if (std::holds_alternative<ViewChanged>(event)) {
    ++counts_["told of another view"];
  } else {
    Fault("an event that does not belong here");
  }
}

void Simulation::Compute(int number) {
  Worker& worker = workers_[number];
  // A gradient takes a while; a paused process takes longer.
  At(Between(microseconds(200), milliseconds(4)),
     [this, number, incarnation = worker.incarnation, generation = worker.generation, step = worker.step] {
       Worker& it = workers_[number];
       const auto same = [&] { return it.up && it.incarnation == incarnation && it.generation == generation && it.step == step; };
       if (!same()) return;
       if (it.paused_until > now_)
         return At(it.paused_until - now_, [this, number, incarnation, generation, step] {
           Worker& later = workers_[number];
           if (later.up && later.incarnation == incarnation && later.generation == generation && later.step == step) Computed(number);
         });
       Computed(number);
     });
}

void Simulation::Computed(int number) {
  Worker& worker = workers_[number];
  worker.computed = true;
  if (plan_.mode == Mode::kAsync) {
    const auto gradient = std::make_shared<const std::vector<float>>(LeafGradient(layout_, worker.client->parameters(), *worker.lease, 0));
    worker.client->Push({0, *worker.lease, {}}, gradient, 1 / LeafWeight(*worker.lease, 0), now_);
    worker.client->Await(0, now_);
  } else if (plan_.backup) {
    worker.client->Claim(worker.step, kBackupWeight, now_);
  } else {
    for (const SubTree& unit : worker.units) PushUnit(number, worker.step, unit);
    worker.client->Await(worker.step + 1, now_);
  }
  PumpWorker(number);
}

void Simulation::PushUnit(int number, Step step, const SubTree& unit) {
  Worker& worker = workers_[number];
  if (!worker.pushed.insert({step, unit.first_leaf()}).second) return;
  const auto& parameters = worker.client->parameters();
  const auto gradient = std::make_shared<const std::vector<float>>(plan_.backup ? LeafGradient(layout_, parameters, step, number)
                                                                                : UnitGradient(layout_, parameters, step, unit));
  worker.client->Push({0, step, unit}, gradient, 1, now_);
  const double weight = plan_.backup ? kBackupWeight : UnitWeight(step, unit);
  const bool finite = !(plan_.shard.skip_non_finite && step % 3 == 1 && unit.first_leaf() == 0);
  worker.client->Finish(step, unit, weight, 1, finite, now_);
}

// The leaves of those who are gone, of every step that I know to be open.
void Simulation::TakeOver(int number) {
  Worker& worker = workers_[number];
  if (worker.step < 0 || plan_.mode == Mode::kAsync) return;
  if (plan_.backup) {
    if (worker.turned_away) worker.client->Claim(worker.step, kBackupWeight, now_);
    return;
  }
  for (Step step = worker.closed_below; step <= std::min(worker.step, plan_.steps - 1); ++step) {
    if (step == worker.step && !worker.computed) continue;
    for (const SubTree& unit : worker.units) {
      if (!worker.pushed.contains({step, unit.first_leaf()})) {
        ++counts_["units taken over"];
        PushUnit(number, step, unit);
      }
    }
  }
}

void Simulation::AskForLease(int number) {
  Reach(number, [this, number, incarnation = workers_[number].incarnation, generation = workers_[number].generation] {
    Worker& worker = workers_[number];
    if (worker.incarnation != incarnation || worker.generation != generation) return;
    if (!coordinator_up_ || generation != generation_) return AskForLease(number);
    if (static_cast<int64_t>(leases_done_.size()) == plan_.leases) {
      worker.done = true;
      return;
    }
    if (leases_pending_.empty()) return AskForLease(number);
    worker.lease = *leases_pending_.begin();
    leases_pending_.erase(leases_pending_.begin());
    leases_out_[*worker.lease] = number;
    worker.step = *worker.lease;
    Compute(number);
  });
}

void Simulation::WorkerArrives(int number, uint64_t incarnation) {
  if (!coordinator_up_) return;  // it will look around when it is back
  if (const auto member = members_.find(number); member != members_.end() && member->second >= incarnation) return;
  members_[number] = incarnation;
  std::erase_if(leases_out_, [&](const auto& lease) {
    if (lease.second == number) leases_pending_.insert(lease.first);
    return lease.second == number;
  });
  StartView(false);
}

void Simulation::WorkerLost(int number, uint64_t incarnation) {
  const auto member = members_.find(number);
  if (!coordinator_up_ || member == members_.end() || member->second != incarnation) return;
  ++counts_["workers fenced"];
  members_.erase(member);
  std::erase_if(leases_out_, [&](const auto& lease) {
    if (lease.second == number) leases_pending_.insert(lease.first);
    return lease.second == number;
  });
  StartView(false);
}

void Simulation::StartView(bool roll_back) {
  ++view_;
  acknowledged_.clear();
  if (roll_back && !rolling_back_) ++counts_["rollbacks"];
  rolling_back_ = rolling_back_ || roll_back;
  if (rolling_back_) {
    ++generation_;
    rolled_back_in_ = view_;
    parts_.clear();
    const auto manifest = NewestManifest(coordinator_storage_, kDirectory, plan_.shard.job);
    if (!manifest.ok()) return Fault(dtrain::Message(manifest.status()));
    leases_done_.clear();
    leases_out_.clear();
    for (int64_t lease = 0; lease < plan_.leases; ++lease) leases_pending_.insert(lease);
    for (int s = 0; s < plan_.servers; ++s) {
      Reach(100 + s, [this, s, view = view_, manifest = *manifest] { LoadServer(s, view, manifest); });
    }
  }
  for (int s = 0; s < plan_.servers; ++s) SendOpenView(s, view_);
}

// Until it is acknowledged; a server that has been told to load acknowledges when it has.
void Simulation::SendOpenView(int server, int64_t view) {
  if (view != view_ || acknowledged_.contains(server) || !coordinator_up_) return;
  if (!rolling_back_ || servers_[server].version >= -1) {
    OpenView open;
    for (const auto& [worker, incarnation] : members_) open.members.push_back({worker, incarnation});
    // In a rollback the view must not reach a server that has not loaded: it is sent after the load, for its answer alone.
    const bool loaded = servers_[server].shard != nullptr && servers_[server].shard->view() == view;
    if (!rolling_back_ || loaded) Transmit(kCoordinator, 100 + server, Encode({{plan_.shard.job, view, kNoWorker, 0, 0}, open, {}}));
  }
  At(milliseconds(15), [=, this] { SendOpenView(server, view); });
}

void Simulation::ViewAcknowledged(int server, int64_t view, int64_t version) {
  if (view != view_) return;
  acknowledged_[server] = version;
  if (acknowledged_.size() < servers_.size()) return;
  rolling_back_ = false;
  Step start = plan_.steps;
  for (const auto& [number, of_server] : acknowledged_) start = std::min(start, std::max<Step>(0, of_server));
  std::vector<int> live;
  for (const auto& [worker, incarnation] : members_) live.push_back(worker);
  for (size_t i = 0; i < live.size(); ++i) {
    Tell tell{.view = view_, .generation = generation_, .incarnation = members_.at(live[i]), .start = start};
    for (size_t u = 0; u < units_.size(); ++u) {
      const int owner = members_.contains(static_cast<int>(u)) ? static_cast<int>(u) : live[u % live.size()];
      if (owner == live[i]) tell.units.push_back(units_[u]);
    }
    Reach(live[i], [this, number = live[i], tell] { HearTell(number, tell); });
  }
}

void Simulation::PartWritten(int server, Step step, const PartInfo& info, int64_t view) {
  // What a server wrote before it heard of the rollback belongs to no checkpoint of after it.
  if (!coordinator_up_ || view < rolled_back_in_) return;
  parts_[step][server] = info;
  if (parts_[step].size() < servers_.size()) return;
  Manifest manifest{.job = plan_.shard.job, .step = step, .view = view_};
  for (const auto& [number, part] : parts_[step]) manifest.parts.push_back(part);
  parts_.erase(parts_.begin(), parts_.upper_bound(step));
  if (const Status written = WriteManifest(coordinator_storage_, kDirectory, manifest); !written.ok())
    return Fault(dtrain::Message(written));
  ++counts_["checkpoints"];
  for (int s = 0; s < plan_.servers; ++s) {
    Reach(100 + s, [=, this] {
      Server& it = servers_[s];
      if (it.journal == nullptr || !it.journal->Cut(step).ok() || !RemoveBefore(*it.storage, kDirectory, step).ok()) CrashServer(s);
    });
  }
}

void Simulation::CrashCoordinator() {
  ++counts_["coordinator crashes"];
  coordinator_up_ = false;
  coordinator_storage_.PowerCut(rng_.Next64());
  parts_.clear();
  At(Between(milliseconds(5), milliseconds(80)), [this] {
    coordinator_up_ = true;
    members_.clear();
    for (size_t w = 0; w < workers_.size(); ++w) {
      if (workers_[w].up) members_[static_cast<int>(w)] = workers_[w].incarnation;
    }
    StartView(true);
  });
}

}  // namespace dtrain::ps
