#include "tests/sim/sim_transport.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <utility>

#include "base/rng.h"

namespace dtrain {

// Two directions; an end sends into its own number and receives from the other's.
struct SimTransport::Wire {
  struct Message {
    TimePoint at;
    std::vector<std::byte> bytes;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::array<std::deque<Message>, 2> queues;
  std::array<size_t, 2> queued_bytes = {};
  std::array<TimePoint, 2> last = {};
  std::vector<Rng> draws;
  bool closed = false;  // in order: what is under way still arrives
  bool cut = false;     // by a fault: nothing does
  bool muted = false;
};

struct SimTransport::Port {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::unique_ptr<Link>> waiting;
};

class SimTransport::SimLink final : public Link {
 public:
  SimLink(std::shared_ptr<Wire> wire, int end, const SimTransportOptions& options, std::string peer)
      : wire_(std::move(wire)), end_(static_cast<size_t>(end)), options_(options), peer_(std::move(peer)) {}
  ~SimLink() override { Close(); }

  Status Send(std::span<const std::byte> message, Deadline deadline) override {
    std::unique_lock lock(wire_->mutex);
    const auto room = [&] {
      return wire_->closed || wire_->cut || wire_->queued_bytes[end_] + message.size() <= options_.queued_bytes_max;
    };
    if (!wire_->changed.wait_until(lock, deadline.at, room)) return DeadlineExceeded("send to ", peer_, ": no room in time");
    if (wire_->closed || wire_->cut) return Unavailable("send to ", peer_, ": the peer is gone");
    if (wire_->muted) return OkStatus();
    Rng& draws = wire_->draws[end_];
    if (draws.Uniform() < options_.cut_chance) {
      wire_->cut = true;
      wire_->changed.notify_all();
      return Unavailable("send to ", peer_, ": the link broke");
    }
    const auto delay = options_.delay_max * static_cast<int64_t>(draws.Below(1'000)) / 1'000;
    wire_->last[end_] = std::max(wire_->last[end_], SystemClock().Now() + delay);
    wire_->queues[end_].push_back({wire_->last[end_], {message.begin(), message.end()}});
    wire_->queued_bytes[end_] += message.size();
    wire_->changed.notify_all();
    return OkStatus();
  }

  StatusOr<std::vector<std::byte>> Receive(Deadline deadline) override {
    std::unique_lock lock(wire_->mutex);
    auto& queue = wire_->queues[1 - end_];
    for (;;) {
      if (wire_->cut || closed_here_) return Unavailable("receive from ", peer_, ": the link broke");
      const TimePoint now = SystemClock().Now();
      if (!queue.empty() && queue.front().at <= now) {
        std::vector<std::byte> bytes = std::move(queue.front().bytes);
        queue.pop_front();
        wire_->queued_bytes[1 - end_] -= bytes.size();
        wire_->changed.notify_all();
        return bytes;
      }
      if (queue.empty() && wire_->closed) return Unavailable("receive from ", peer_, ": the peer closed the connection");
      if (now >= deadline.at) return DeadlineExceeded("receive from ", peer_, ": nothing happened in time");
      wire_->changed.wait_until(lock, queue.empty() ? deadline.at : std::min(deadline.at, queue.front().at));
    }
  }

  void Close() override {
    const std::lock_guard lock(wire_->mutex);
    wire_->closed = closed_here_ = true;
    wire_->changed.notify_all();
  }
  std::string peer() const override { return peer_; }

 private:
  const std::shared_ptr<Wire> wire_;
  const size_t end_;
  const SimTransportOptions options_;
  const std::string peer_;
  bool closed_here_ = false;  // under the wire's mutex
};

class SimTransport::SimListener final : public Listener {
 public:
  SimListener(std::shared_ptr<Port> port, Address address) : port_(std::move(port)), address_(std::move(address)) {}
  StatusOr<std::unique_ptr<Link>> Accept(Deadline deadline) override {
    std::unique_lock lock(port_->mutex);
    if (!port_->changed.wait_until(lock, deadline.at, [&] { return !port_->waiting.empty(); })) {
      return DeadlineExceeded("accept on port ", address_.port, ": nothing happened in time");
    }
    auto link = std::move(port_->waiting.front());
    port_->waiting.pop_front();
    return link;
  }
  Address address() const override { return address_; }

 private:
  const std::shared_ptr<Port> port_;
  const Address address_;
};

SimTransport::SimTransport(const SimTransportOptions& options) : options_(options) {}
SimTransport::~SimTransport() = default;

StatusOr<std::unique_ptr<Listener>> SimTransport::Listen(const Address& address) {
  const std::lock_guard lock(mutex_);
  const uint16_t number = address.port == 0 ? next_port_++ : address.port;
  if (!ports_[number].expired()) return AlreadyExists("listen on port ", number, ": the port is taken");
  auto port = std::make_shared<Port>();
  ports_[number] = port;
  return std::make_unique<SimListener>(std::move(port), Address{address.host, number});
}

StatusOr<std::unique_ptr<Link>> SimTransport::Connect(const Address& address, Deadline) {
  const std::lock_guard lock(mutex_);
  const std::shared_ptr<Port> port = ports_[address.port].lock();
  if (port == nullptr) return Unavailable("connect to port ", address.port, ": nobody listens there");
  auto wire = std::make_shared<Wire>();
  for (uint64_t end : {0, 1}) wire->draws.emplace_back(options_.seed, RngPurpose::kSynthetic, wires_.size(), end);
  wires_.push_back(wire);
  {
    const std::lock_guard port_lock(port->mutex);
    port->waiting.push_back(std::make_unique<SimLink>(wire, 1, options_, Cat("sim peer ", wires_.size())));
  }
  port->changed.notify_all();
  return std::make_unique<SimLink>(wire, 0, options_, Cat("sim port ", address.port));
}

int64_t SimTransport::connects() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(wires_.size());
}

void SimTransport::Mute() {
  const std::lock_guard lock(mutex_);
  for (const auto& weak : wires_) {
    if (const auto wire = weak.lock()) {
      const std::lock_guard wire_lock(wire->mutex);
      wire->muted = true;
    }
  }
}

void SimTransport::CutAll() {
  const std::lock_guard lock(mutex_);
  for (const auto& weak : wires_) {
    if (const auto wire = weak.lock()) {
      const std::lock_guard wire_lock(wire->mutex);
      wire->cut = true;
      wire->changed.notify_all();
    }
  }
}

}  // namespace dtrain
