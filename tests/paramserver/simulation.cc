// The world: plan, faults, network and time.
#include "tests/paramserver/simulation.h"

#include <algorithm>
#include <bit>

namespace dtrain::ps {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr uint64_t kJob = 4711;

}  // namespace

Simulation::Simulation(uint64_t seed) : seed_(seed), rng_(seed, RngPurpose::kSynthetic, 99) {
  DrawPlan();
  layout_ = plan_.table.layout();
  sharding_ = PlanSharding(plan_.table, layout_);
  if (plan_.mode == Mode::kSync && !plan_.backup) {
    SerialRun serial(plan_.table, plan_.shard);
    serial_.push_back(serial.parameters);
    for (Step step = 0; step < plan_.steps; ++step) {
      serial.Run(step, plan_.shard, plan_.shard.skip_non_finite && step % 3 == 1);
      serial_.push_back(serial.parameters);
    }
  }
  servers_.resize(static_cast<size_t>(plan_.servers));
  workers_.resize(static_cast<size_t>(plan_.workers));
  for (Server& server : servers_) server.storage = std::make_unique<SimStorage>();
  for (int64_t lease = 0; lease < plan_.leases; ++lease) leases_pending_.insert(lease);
}

void Simulation::DrawPlan() {
  Plan& plan = plan_;
  const uint64_t kind = rng_.Below(8);  // synchronous half of the time
  plan.servers = static_cast<int>(1 + rng_.Below(3));
  plan.workers = static_cast<int>(1 + rng_.Below(4));
  plan.steps = static_cast<Step>(3 + rng_.Below(5));
  plan.table = SmallTable(plan.servers + static_cast<int>(rng_.Below(3)), plan.servers);
  ShardOptions& shard = plan.shard;
  shard.job = kJob;
  shard.leaves = 4;
  shard.learning_rate = [](Step step) { return 0.2 / static_cast<double>(1 + step); };
  if (rng_.Below(2) == 0) {
    shard.optimizer = {.type = OptimizerType::kAdam};
  } else {
    shard.optimizer = {.momentum = 0.9};
  }
  if (kind == 4 || kind == 5) {
    plan.mode = Mode::kStale;
    shard.staleness_bound = static_cast<int64_t>(rng_.Below(4));
  } else if (kind == 6) {
    plan.mode = Mode::kAsync;
    plan.leases = static_cast<int64_t>(4 + rng_.Below(12));
    shard.staleness_rule = DefaultStalenessRule(shard.optimizer.type);
    shard.updates_per_step = plan.workers;
  } else if (kind == 7) {
    plan.backup = true;
    shard.leaves = static_cast<int64_t>(1 + rng_.Below(static_cast<uint64_t>(plan.workers)));
  } else {
    if (rng_.Below(2) == 0) shard.reduce = Reduce::kSum;
    if (rng_.Below(3) == 0) shard.clip_norm = 0.5;
    if (rng_.Below(3) == 0) shard.skip_non_finite = true;
  }
  shard.mode = plan.mode;
  shard.backup_workers = plan.backup;
  shard.held_bytes_max = rng_.Below(2) == 0 ? 0 : 200;
  shard.lease = milliseconds(30);
  if (plan.mode != Mode::kAsync && rng_.Below(4) > 0) shard.checkpoint_every_steps = static_cast<int64_t>(1 + rng_.Below(3));
  plan.client = {.job = kJob,
                 .mode = plan.mode,
                 .staleness_bound = shard.staleness_bound,
                 .backup_workers = plan.backup,
                 .window_bytes = rng_.Below(2) == 0 ? 64 : 4'096,
                 .retry_min = milliseconds(4),
                 .retry_max = milliseconds(40),
                 .silence_max = seconds(1)};
  if (!plan.backup) units_ = *AssignSubTrees(shard.leaves, plan.workers);
  plan.lossy = rng_.Below(4) > 0;
  if (plan.lossy) {
    plan.drop = 0.25 * rng_.Uniform();
    plan.repeat = 0.25 * rng_.Uniform();
  }
  plan.journal_group = Between(milliseconds(1), milliseconds(20));
  plan.delay_max = microseconds(200 + 200 * rng_.Below(30));
  script_.push_back(Cat(plan.backup                 ? "backup"
                        : plan.mode == Mode::kSync  ? "sync"
                        : plan.mode == Mode::kStale ? Cat("stale ", shard.staleness_bound)
                                                    : "async",
                        ", ", plan.servers, " servers, ", plan.workers, " workers, ", plan.table.entries.size(), " tensors, ", plan.steps,
                        " steps, leaves ", shard.leaves, ", drop ", Fixed(plan.drop, 2), ", repeat ", Fixed(plan.repeat, 2), ", clip ",
                        shard.clip_norm, ", skip ", shard.skip_non_finite, ", held ", shard.held_bytes_max, ", checkpoint every ",
                        shard.checkpoint_every_steps));
}

void Simulation::DrawFaults() {
  const uint64_t faults = rng_.Below(3) == 0 ? 0 : 1 + rng_.Below(4);
  const bool worker_faults = rng_.Below(3) > 0;
  for (uint64_t i = 0; i < faults; ++i) {
    const Duration when = Between(milliseconds(1), milliseconds(40 + 20 * plan_.steps)),
                   lasts = Between(milliseconds(5), milliseconds(150));
    const int worker = static_cast<int>(rng_.Below(workers_.size())), server = static_cast<int>(rng_.Below(servers_.size()));
    const int any = rng_.Below(2) == 0 ? worker : 100 + server;
    const uint64_t kind = rng_.Below(worker_faults ? 7 : 3);
    const auto note = [&](const auto&... what) { script_.push_back(Cat(Seconds(when), " s: ", what...)); };
    if (kind <= 1) {
      note("server ", server, " crashes");
      At(when, [=, this] { CrashServer(server); });
    } else if (kind == 2) {
      const auto operations = static_cast<int64_t>(rng_.Below(30));
      note("server ", server, " crashes at its disk's operation ", operations, " from there");
      At(when, [=, this] {
        if (servers_[server].up) servers_[server].storage->CrashAt(servers_[server].storage->operations() + operations);
      });
    } else if (kind == 3 || kind == 4) {
      plan_.worker_faults = true;
      note("worker ", worker, " crashes");
      At(when, [=, this] { CrashWorker(worker); });
    } else {
      plan_.worker_faults = true;
      const bool pause = kind == 5;
      note(any >= 100 ? "server " : "worker ", any % 100, pause ? " pauses for " : " is cut off for ", Seconds(lasts), " s");
      At(when, [=, this] {
        Process& it = process(any);
        (pause ? it.paused_until : it.cut_until) = now_ + lasts;
        ++counts_[pause ? "pauses" : "cuts"];
        if (any >= 100) return;
        // A worker that is not heard of for a lease is fenced; when it comes back it is told so, and begins again.
        const uint64_t incarnation = it.incarnation;
        constexpr Duration kWorkerLease = milliseconds(60);
        if (lasts > kWorkerLease) At(kWorkerLease, [=, this] { WorkerLost(any, incarnation); });
        At(lasts + milliseconds(1), [=, this] {
          if (workers_[any].up && workers_[any].incarnation == incarnation && coordinator_up_ && !members_.contains(any)) StartWorker(any);
        });
      });
    }
  }
  if (rng_.Below(12) == 0) {
    const Duration when = Between(milliseconds(1), milliseconds(100));
    script_.push_back(Cat(Seconds(when), " s: the coordinator crashes"));
    At(when, [this] { CrashCoordinator(); });
  }
}

std::string Simulation::Script() const { return Join(script_, "; "); }

Simulation::Process& Simulation::process(int number) {
  if (number >= 100) return servers_[static_cast<size_t>(number - 100)];
  return workers_[static_cast<size_t>(number)];
}

void Simulation::Transmit(int from, int to, std::vector<std::byte> bytes) {
  ++counts_["messages"];
  const auto cut = [&](int number) { return number != kCoordinator && process(number).cut_until > now_; };
  if (cut(from) || cut(to)) return;
  int copies = Chance(plan_.repeat) ? 2 : 1;
  if (Chance(plan_.drop)) --copies;
  for (int copy = 0; copy < copies; ++copy) {
    const Duration delay = Between(microseconds(50), Chance(0.02) ? 20 * plan_.delay_max : plan_.delay_max);
    At(delay, [this, from, to, bytes] { Deliver(from, to, bytes); });
  }
}

void Simulation::Deliver(int from, int to, const std::vector<std::byte>& bytes) {
  if (to == kCoordinator) {
    if (!coordinator_up_) return;
    const auto message = Decode(bytes);
    if (const auto* taken = message.ok() ? std::get_if<ViewTaken>(&message->body) : nullptr) {
      ViewAcknowledged(from - 100, message->sender.view, taken->version);
    }
    return;
  }
  Process& it = process(to);
  if (!it.up || it.cut_until > now_) return;
  if (it.paused_until > now_)
    return At(it.paused_until - now_ + Between(microseconds(1), microseconds(50)), [this, from, to, bytes] { Deliver(from, to, bytes); });
  if (to >= 100) return ServerReceives(to - 100, from, bytes);
  if (workers_[to].client == nullptr || from < 100) return;
  const auto message = Decode(bytes);
  if (!message.ok()) return Fault(Cat("worker ", to, " got damaged bytes"));
  workers_[to].client->Receive(from - 100, *message, now_);
  PumpWorker(to);
}

void Simulation::Reach(int to, std::function<void()> what) {
  At(Between(microseconds(100), 2 * plan_.delay_max), [this, to, what = std::move(what)] {
    const Process& it = process(to);
    const TimePoint free = std::max(it.paused_until, it.cut_until);
    if (free > now_) return At(free - now_ + microseconds(10), [this, to, what] { Reach(to, what); });
    if (it.up) what();
  });
}

bool Simulation::Finished() const {
  if (rolling_back_) return false;
  for (const Worker& worker : workers_) {
    if (!worker.up || !worker.done) return false;
  }
  for (const Server& server : servers_) {
    if (server.shard == nullptr || !server.shard->ready()) return false;
    if (plan_.mode != Mode::kAsync && server.shard->version() != plan_.steps) return false;
  }
  return true;
}

void Simulation::Run() {
  for (int s = 0; s < plan_.servers; ++s) StartServer(s);
  for (int w = 0; w < plan_.workers; ++w) StartWorker(w);
  DrawFaults();
  int64_t events = 0;
  while (!events_.empty() && fault_.empty() && !Finished()) {
    const Timed event = events_.top();
    events_.pop();
    now_ = event.at;
    event.what();
    if (++events > 400'000 || now_ > TimePoint(std::chrono::hours(1)) + seconds(120)) {
      std::string where;
      for (const Server& server : servers_) where += Cat(" ", server.shard ? server.shard->version() : -2);
      where += "; workers";
      for (const Worker& worker : workers_) where += Cat(" ", worker.up ? worker.step : -2);
      return Fault(Cat("does not end; view ", view_, ", servers at", where));
    }
  }
  if (!fault_.empty()) return;
  if (plan_.mode == Mode::kAsync) {
    for (const Server& server : servers_) {
      for (const int64_t version : server.chunk_versions) {
        if (version != plan_.leases) Fault(Cat("a chunk has ", version, " updates from ", plan_.leases, " leases"));
      }
    }
  }
  ++counts_["runs"];
}

}  // namespace dtrain::ps
