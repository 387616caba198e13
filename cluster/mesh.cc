#include "cluster/mesh.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <list>
#include <mutex>
#include <thread>
#include <utility>

#include "base/check.h"
#include "cluster/handshake.h"
#include "cluster/job_environment.h"
#include "cluster/mesh_rules.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;

constexpr Duration kNap = milliseconds(20);         // of whoever looks whether it is over
constexpr Duration kRetryPause = milliseconds(20);  // between two attempts at a link
constexpr size_t kConnectorsMax = 16;               // threads; an attempt has a limit, so a silent host holds none for ever

class Builder {
 public:
  Builder(Transport& transport, std::unique_ptr<Listener> listener, const MeshOptions& options)
      : transport_(transport),
        options_(options),
        listener_(std::move(listener)),
        rules_(options.rank, options.world_size, options.view, options.lanes),
        mesh_(static_cast<size_t>(options.lanes)) {
    for (auto& lane : mesh_) lane.resize(static_cast<size_t>(options.world_size));
    acceptor_ = std::thread([this] { AcceptLoop(); });
  }

  ~Builder() {
    Close();
    acceptor_.join();
    for (std::thread& connector : connectors_) connector.join();
    Reap(true);
  }

  // Connects to every higher rank until `deadline`.
  void Connect(std::vector<Address> addresses, Deadline deadline) {
    addresses_ = std::move(addresses);
    connect_deadline_ = deadline;
    for (int peer = options_.rank + 1; peer < options_.world_size; ++peer) {
      rules_.Note(peer, Cat("no answer from ", ToText(addresses_[static_cast<size_t>(peer)])));
    }
    for (int lane = 0; lane < options_.lanes; ++lane) {
      for (int peer = options_.rank + 1; peer < options_.world_size; ++peer) tasks_.push_back({peer, lane, 1, {}});
    }
    const size_t count = std::min(kConnectorsMax, tasks_.size());
    for (size_t i = 0; i < count; ++i) connectors_.emplace_back([this] { ConnectLoop(); });
  }

  // Until all links are there, the deadline, or a failure that waiting does not mend.
  Status Wait(Deadline deadline) {
    std::unique_lock lock(mutex_);
    while (!rules_.complete() && !hopeless_ && !deadline.Passed()) {
      changed_.wait_for(lock, std::min(kNap, std::max(deadline.Left(), Duration(0))));
      if (!options_.health) continue;
      lock.unlock();
      const Status health = options_.health();
      lock.lock();
      if (!health.ok()) return health;
    }
    return OkStatus();
  }

  std::string Report() {
    const std::lock_guard lock(mutex_);
    return rules_.Report();
  }

  // Once every rank has all its links: nobody will bring another.
  Mesh Take(Deadline deadline) {
    std::unique_lock lock(mutex_);
    // A newer attempt whose welcome went out a moment ago replaces the link of the one before.
    changed_.wait_until(lock, deadline.at, [&] { return welcoming_ == 0; });
    return std::move(mesh_);
  }

 private:
  // Whoever connected and has not proved yet that it belongs here.
  struct Stranger {
    std::unique_ptr<Link> link;  // moved out once it is a rank's; under the mutex
    bool admitted = false;       // no longer cut
    bool done = false;
    std::thread thread;
  };
  struct Task {
    int peer, lane;
    int64_t attempt;
    TimePoint not_before;
  };

  void Close() {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    for (const auto& stranger : strangers_) {
      if (stranger->link != nullptr) stranger->link->Close();
    }
    for (Link* link : connecting_) link->Close();
    changed_.notify_all();
  }

  void AcceptLoop() {
    const auto strangers_max = static_cast<size_t>(std::max(1, options_.strangers_max));
    while (!closing_) {
      auto link = listener_->Accept(Deadline::In(kNap));
      Reap(false);
      if (!link.ok()) {
        // Out of descriptors, say.
        if (link.status().code() != StatusCode::kDeadlineExceeded) std::this_thread::sleep_for(kNap);
        continue;
      }
      const std::lock_guard lock(mutex_);
      if (closing_) return;
      std::vector<Stranger*> waiting;
      for (const auto& stranger : strangers_) {
        if (!stranger->admitted && !stranger->done) waiting.push_back(stranger.get());
      }
      // The oldest are cut and not the newest: ranks prove themselves within milliseconds.
      for (size_t i = 0; i + strangers_max <= waiting.size(); ++i) waiting[i]->link->Close();
      strangers_.push_back(std::make_unique<Stranger>());
      Stranger& stranger = *strangers_.back();
      stranger.link = *std::move(link);
      stranger.thread = std::thread([this, &stranger] { Greet(stranger); });
    }
  }

  void Greet(Stranger& stranger) {
    Link& link = *stranger.link;
    const Deadline deadline = Deadline::In(options_.hello_limit);
    const Nonce challenge = SecureRandom();
    MeshHello hello;
    const auto proven = [&]() -> Status {
      RETURN_IF_ERROR(SendMessage(link, Challenge{challenge}, deadline));
      ASSIGN_OR_RETURN(const ControlMessage first, ReceiveMessage(link, deadline));
      const auto* found = std::get_if<MeshHello>(&first);
      if (found == nullptr) return DataLoss("found ", NameOf(first), ", expected MeshHello");
      hello = *found;
      Status admitted = CheckMeshHello(options_.token, challenge, hello);
      if (admitted.ok()) {
        const std::lock_guard lock(mutex_);
        admitted = closing_ ? Unavailable("it is over") : rules_.Admit(hello);
        if (!admitted.ok() && hello.from != options_.rank && hello.from < options_.world_size) rules_.Note(hello.from, Message(admitted));
        stranger.admitted = admitted.ok();
        welcoming_ += admitted.ok() ? 1 : 0;
      }
      // Refused says why as a courtesy; the link is closed in any case.
      if (!admitted.ok()) (void)SendMessage(link, Refused{Message(admitted)}, deadline);
      return admitted;
    }();
    const Status welcomed = proven.ok() ? SendMessage(link, SignMeshWelcome(options_.token, challenge, hello), deadline) : proven;
    const std::lock_guard lock(mutex_);
    if (proven.ok()) --welcoming_;
    if (welcomed.ok() && rules_.Place(hello)) {
      mesh_[static_cast<size_t>(hello.lane)][static_cast<size_t>(hello.from)] = std::move(stranger.link);
    } else {
      link.Close();
    }
    stranger.done = true;
    changed_.notify_all();
  }

  void Reap(bool all) {
    std::vector<std::unique_ptr<Stranger>> ended;
    {
      const std::lock_guard lock(mutex_);
      for (auto it = strangers_.begin(); it != strangers_.end();) {
        if (all || (*it)->done) {
          ended.push_back(std::move(*it));
          it = strangers_.erase(it);
        } else {
          ++it;
        }
      }
    }
    for (const auto& stranger : ended) stranger->thread.join();
  }

  void ConnectLoop() {
    std::unique_lock lock(mutex_);
    while (!closing_ && !tasks_.empty() && !connect_deadline_.Passed()) {
      Task task = tasks_.front();
      tasks_.pop_front();
      if (task.not_before > SystemClock().Now()) {
        changed_.wait_until(lock, std::min(task.not_before, connect_deadline_.at), [&] { return closing_.load(); });
      }
      if (closing_ || connect_deadline_.Passed()) return;
      const MeshHello hello = rules_.HelloTo(task.peer, task.lane, task.attempt);
      lock.unlock();
      std::unique_ptr<Link> link;
      const Status status = TryConnect(hello, link);
      lock.lock();
      if (status.ok()) {
        mesh_[static_cast<size_t>(task.lane)][static_cast<size_t>(task.peer)] = std::move(link);
        rules_.Connected(task.peer, task.lane);
        changed_.notify_all();
        continue;
      }
      rules_.Note(task.peer, Message(status));
      if (status.code() == StatusCode::kPermissionDenied) {
        hopeless_ = true;  // we were understood and sent away
        changed_.notify_all();
        return;
      }
      tasks_.push_back({task.peer, task.lane, task.attempt + 1, SystemClock().Now() + kRetryPause});
    }
  }

  Status TryConnect(const MeshHello& hello, std::unique_ptr<Link>& to) {
    const Deadline deadline = {std::min(connect_deadline_.at, Deadline::In(options_.hello_limit).at)};
    const Address& address = addresses_[static_cast<size_t>(hello.to)];
    ASSIGN_OR_RETURN(to, transport_.Connect(address, deadline));
    {
      const std::lock_guard lock(mutex_);
      if (closing_) return Unavailable("it is over");
      connecting_.push_back(to.get());
    }
    const Status status = Annotate(IntroduceRank(*to, options_.token, hello, deadline), Cat("connect to ", ToText(address)));
    const std::lock_guard lock(mutex_);
    std::erase(connecting_, to.get());
    return closing_ ? Unavailable("it is over") : status;
  }

  Transport& transport_;
  const MeshOptions& options_;
  const std::unique_ptr<Listener> listener_;
  std::vector<Address> addresses_;
  Deadline connect_deadline_ = {};

  std::mutex mutex_;
  std::condition_variable changed_;
  MeshRules rules_;
  Mesh mesh_;
  std::list<std::unique_ptr<Stranger>> strangers_;  // the oldest first
  std::deque<Task> tasks_;
  std::vector<Link*> connecting_;
  int welcoming_ = 0;  // admitted, not placed yet
  bool hopeless_ = false;
  std::atomic<bool> closing_ = false;
  std::thread acceptor_;
  std::vector<std::thread> connectors_;
};

StatusOr<std::vector<Address>> ParseAddresses(const std::vector<std::string>& texts, int world_size) {
  if (texts.size() != static_cast<size_t>(world_size)) {
    return DataLoss("found addresses of ", texts.size(), " ranks, expected ", world_size);
  }
  std::vector<Address> addresses;
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    auto address = ParseAddress(texts[rank]);
    if (!address.ok()) return DataLoss("the address of rank ", rank, ": ", Message(address.status()));
    addresses.push_back(*std::move(address));
  }
  return addresses;
}

Status CheckOptions(const MeshOptions& options) {
  if (options.world_size < 1 || options.world_size > kRanksMax || options.rank < 0 || options.rank >= options.world_size) {
    return InvalidArgument("found rank ", options.rank, " of ", options.world_size);
  }
  if (options.lanes < 1 || options.lanes > kLanesMax) {
    return InvalidArgument("found ", options.lanes, " links to every rank, expected 1 to ", kLanesMax);
  }
  if (options.token.empty()) return InvalidArgument("no token is given");
  return OkStatus();
}

}  // namespace

StatusOr<Mesh> ConnectMesh(Transport& transport, const MeshOptions& options, Deadline deadline) {
  const std::string what = Cat("connect rank ", options.rank, " with the others");
  RETURN_IF_ERROR(Annotate(CheckOptions(options), what));
  DTRAIN_CHECK(options.all_gather);
  auto listener = transport.Listen({options.host, 0});
  if (!listener.ok()) return Annotate(listener.status(), what);
  const std::string mine = ToText((*listener)->address());
  Builder builder(transport, *std::move(listener), options);
  ASSIGN_OR_RETURN(const auto texts, options.all_gather(Cat("mesh addresses, view ", options.view), mine, deadline));
  auto addresses = ParseAddresses(texts, options.world_size);
  if (!addresses.ok()) return Annotate(addresses.status(), what);
  // A fifth of the time is kept for telling each other how it went.
  const Deadline connected = Deadline::In(deadline.Left() * 4 / 5);
  builder.Connect(*std::move(addresses), connected);
  RETURN_IF_ERROR(Annotate(builder.Wait(connected), what));
  ASSIGN_OR_RETURN(const auto reports, options.all_gather(Cat("mesh done, view ", options.view), builder.Report(), deadline));
  RETURN_IF_ERROR(MeshVerdict(reports));
  return builder.Take(deadline);
}

}  // namespace dtrain
