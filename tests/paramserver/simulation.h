// A whole job in one thread and virtual time, from one seed: servers with disks, workers, a coordinator, and a network that
// delays, loses, repeats and reorders. Processes are killed (what was not synced is gone), paused and cut off. Whatever
// is counted, applied or read is checked at once against a model that was not told of any of this.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/rng.h"
#include "paramserver/checkpoint.h"
#include "paramserver/client.h"
#include "paramserver/journal.h"
#include "tests/paramserver/small_job.h"
#include "tests/sim/sim_storage.h"

namespace dtrain::ps {

class Simulation {
 public:
  explicit Simulation(uint64_t seed);
  void Run();

  bool ok() const { return fault_.empty(); }
  const std::string& fault() const { return fault_; }  // the first invariant that did not hold
  std::string Script() const;                          // what this seed does
  // How often things happened, by name; so that a test can tell whether they happened at all.
  const std::map<std::string, int64_t>& counts() const { return counts_; }

 private:
  static constexpr double kBackupWeight = 2;  // equal batches: a slot may change hands within a step
  static constexpr int kCoordinator = -1;     // processes: workers from 0, servers from 100

  struct Plan {
    Mode mode = Mode::kSync;
    bool backup = false;
    int servers = 1, workers = 1;
    Step steps = 0;
    int64_t leases = 0;
    bool lossy = false, worker_faults = false;
    double drop = 0, repeat = 0;
    Duration delay_max{}, journal_group{};
    ShardOptions shard;
    ClientOptions client;
    Table table;
  };
  struct Process {
    bool up = false;
    uint64_t incarnation = 0;
    TimePoint paused_until{}, cut_until{};
  };
  struct Server : Process {
    std::unique_ptr<SimStorage> storage;
    std::unique_ptr<Journal> journal;
    std::unique_ptr<Outbox> outbox;
    std::unique_ptr<Shard> shard;
    TimePoint wakes = TimePoint::max();
    int64_t loads = 0;  // pins of a shard mean nothing to the next one
    // The model: what the parameters of this server's chunks must be, and the same at each version for a rollback.
    std::unique_ptr<SerialRun> model;
    struct Saved {
      std::vector<float> parameters;
      std::vector<std::vector<float>> slots;
      int64_t updates = 0;
    };
    std::map<int64_t, Saved> saved;
    std::map<std::pair<int, Step>, std::map<int64_t, std::pair<SubTree, std::vector<float>>>> gradients;  // counted, by (chunk, step)
    std::set<std::tuple<int64_t, Step, int64_t, int>> counted;  // (epoch, step, first leaf, chunk)
    int64_t version = -1;
    std::vector<int64_t> chunk_versions;
    std::map<int64_t, std::vector<float>> closed_as;  // backup: parameters by version, to be the same after a rollback
  };
  struct Worker : Process {
    std::unique_ptr<Client> client;
    int64_t view = 0, generation = 0;
    std::vector<SubTree> units;
    Step step = -1, start = 0, closed_below = 0;
    bool computed = false, turned_away = false, done = false;
    std::set<std::pair<Step, int64_t>> pushed;
    std::optional<int64_t> lease;
    TimePoint wakes = TimePoint::max();
  };
  struct Tell {
    int64_t view = 0, generation = 0;
    uint64_t incarnation = 0;
    Step start = 0;
    std::vector<SubTree> units;
  };
  struct Timed {
    TimePoint at;
    uint64_t order;
    std::function<void()> what;
    bool operator<(const Timed& other) const { return std::tie(at, order) > std::tie(other.at, other.order); }
  };

  // The world.
  void At(Duration in, std::function<void()> what) { events_.push({now_ + in, order_++, std::move(what)}); }
  Duration Between(Duration low, Duration high) {
    return low + Duration(static_cast<int64_t>(rng_.Below(static_cast<uint64_t>((high - low).count()) + 1)));
  }
  bool Chance(double p) { return rng_.Uniform() < static_cast<float>(p); }
  Process& process(int number);
  void Transmit(int from, int to, std::vector<std::byte> bytes);
  void Deliver(int from, int to, const std::vector<std::byte>& bytes);
  // Reliable and slow: what the membership's own connections carry.
  void Reach(int to, std::function<void()> what);
  void Fault(const std::string& what) {
    if (fault_.empty()) fault_ = Cat("at ", Seconds(now_ - TimePoint(std::chrono::hours(1))), " s: ", what);
  }
  void DrawPlan();
  void DrawFaults();
  bool Finished() const;

  // Servers (simulation_servers.cc).
  void StartServer(int number);
  void CrashServer(int number);
  void LoadServer(int number, int64_t view, std::optional<Manifest> manifest);
  void ServerReceives(int number, int from, const std::vector<std::byte>& bytes);
  void Carry(int number, Effects effects);
  void Flush(int number);
  void CheckTaken(int number, const TakenWork& taken);
  void CheckVersion(int number);
  void SaveServer(int number, Step step);
  void ApplyModel(Server& server, int chunk, const UpdateScalars& scalars, std::span<const float> gradient);

  // Workers (simulation_workers.cc).
  void StartWorker(int number);
  void CrashWorker(int number);
  void HearTell(int number, const Tell& tell);
  void PumpWorker(int number);
  void OnEvent(int number, const ClientEvent& event);
  void Compute(int number);
  void Computed(int number);
  void PushUnit(int number, Step step, const SubTree& unit);
  void TakeOver(int number);
  void AskForLease(int number);

  // The coordinator (simulation_workers.cc).
  void StartView(bool roll_back);
  void SendOpenView(int server, int64_t view);
  void ViewAcknowledged(int server, int64_t view, int64_t version);
  void WorkerArrives(int number, uint64_t incarnation);
  void WorkerLost(int number, uint64_t incarnation);
  void PartWritten(int server, Step step, const PartInfo& info, int64_t view);
  void CrashCoordinator();

  const uint64_t seed_;
  Rng rng_;
  Plan plan_;
  FlatLayout layout_;
  Sharding sharding_;
  std::vector<SubTree> units_;
  std::vector<std::vector<float>> serial_;  // kSync: parameters by version
  TimePoint now_ = TimePoint(std::chrono::hours(1));
  std::priority_queue<Timed> events_;
  uint64_t order_ = 0;
  std::vector<Server> servers_;
  std::vector<Worker> workers_;
  std::map<std::tuple<int, Step, int64_t, int32_t, uint64_t, int64_t>, std::vector<float>> arrived_;  // by chunk, work and who sent it

  bool coordinator_up_ = true;
  SimStorage coordinator_storage_;
  int64_t view_ = 0, generation_ = 0, rolled_back_in_ = 0;
  std::map<int, uint64_t> members_;
  bool rolling_back_ = false;
  std::map<int, int64_t> acknowledged_;  // server -> version, of the view that is being opened
  std::map<Step, std::map<int, PartInfo>> parts_;
  std::set<int64_t> leases_pending_, leases_done_;
  std::map<int64_t, int> leases_out_;  // lease -> worker
  Step saves_ = 0;

  std::string fault_;
  std::vector<std::string> script_;
  std::map<std::string, int64_t> counts_;
};

}  // namespace dtrain::ps
