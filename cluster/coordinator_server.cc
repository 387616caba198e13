#include "cluster/coordinator_server.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "cluster/handshake.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kSendLimit = seconds(10);
constexpr Duration kClientIdle = seconds(10);
constexpr Duration kFlushLimit = milliseconds(500);  // for last answers, when the server ends
constexpr Duration kGlance = milliseconds(1);
constexpr size_t kArrivalsMax = 512;         // of at most 64 KiB or so each
constexpr Duration kNap = milliseconds(50);  // of threads that look whether the server closes

}  // namespace

// A peer and its two threads. The receiver proves the peer, then delivers what it says; the sender empties the outbox, so
// that a peer that does not read holds up nobody.
struct CoordinatorServer::Connection {
  int64_t id = 0;
  std::unique_ptr<Link> link;
  std::atomic<bool> trusted = false;
  std::atomic<bool> done = false;  // the receiver is at its end
  Nonce challenge = {}, hello_nonce = {};
  // Turn's thread only: who it is, once admitted.
  std::optional<PeerRole> role;
  int rank = -1;

  std::mutex mutex;
  std::condition_variable filled;
  std::deque<std::vector<std::byte>> outbox;
  size_t outbox_bytes = 0;
  bool last = false;     // close after what is in the outbox
  bool closing = false;  // nothing more goes out
  std::thread receiver, sender;
};

struct CoordinatorServer::Arrival {
  int64_t connection;
  std::optional<ControlMessage> message;  // none: the link closed
  Status why;
};

CoordinatorServer::CoordinatorServer(std::unique_ptr<Listener> listener, CoordinatorServerOptions options, const Clock& clock)
    : options_(std::move(options)), clock_(clock), listener_(std::move(listener)), machine_(options_.job, clock.Now()) {
  DTRAIN_CHECK(!options_.token.empty());
  acceptor_ = std::thread([this] { AcceptLoop(); });
}

CoordinatorServer::~CoordinatorServer() {
  closing_ = true;
  acceptor_.join();
  for (const Deadline deadline = Deadline::In(kFlushLimit); !Flushed() && !deadline.Passed();) std::this_thread::sleep_for(kGlance);
  Reap(true);
}

// Nothing that was posted is still on its way to the kernel.
bool CoordinatorServer::Flushed() {
  const std::lock_guard lock(mutex_);
  return std::all_of(connections_.begin(), connections_.end(), [](const auto& entry) {
    Connection& connection = *entry.second;
    const std::lock_guard connection_lock(connection.mutex);
    return connection.done || connection.closing || connection.outbox.empty();
  });
}

void CoordinatorServer::AcceptLoop() {
  const auto strangers_max = static_cast<size_t>(std::max(1, options_.strangers_max));
  while (!closing_) {
    auto link = listener_->Accept(Deadline::In(kNap, clock_));
    if (!link.ok()) {
      // Out of descriptors, say: those that are connected go on.
      if (link.status().code() != StatusCode::kDeadlineExceeded) std::this_thread::sleep_for(kNap);
      continue;
    }
    auto connection = std::make_unique<Connection>();
    connection->link = *std::move(link);
    const std::lock_guard lock(mutex_);
    std::vector<Connection*> strangers;
    for (const auto& [id, other] : connections_) {
      if (!other->trusted && !other->done) strangers.push_back(other.get());
    }
    // The oldest are cut and not the newest: our own ranks prove themselves within milliseconds.
    for (size_t excess = 0; excess < strangers.size() && strangers.size() - excess >= strangers_max; ++excess) {
      strangers[excess]->link->Close();
    }
    connection->id = next_connection_++;
    Connection& started = *connection;
    connections_.emplace(started.id, std::move(connection));
    started.receiver = std::thread([this, &started] { Serve(started); });
  }
}

void CoordinatorServer::Serve(Connection& connection) {
  Link& link = *connection.link;
  const auto greet = [&]() -> StatusOr<Hello> {
    const Deadline deadline = Deadline::In(options_.hello_limit, clock_);
    connection.challenge = SecureRandom();
    RETURN_IF_ERROR(SendMessage(link, Challenge{connection.challenge}, deadline));
    ASSIGN_OR_RETURN(const ControlMessage first, ReceiveMessage(link, deadline));
    const auto* hello = std::get_if<Hello>(&first);
    if (hello == nullptr) return DataLoss("found ", NameOf(first), ", expected Hello");
    const Status proof = CheckHello(options_.token, connection.challenge, *hello);
    if (!proof.ok()) {
      (void)SendMessage(link, Refused{Message(proof)}, deadline);  // as a courtesy; it is cut in any case
      return proof;
    }
    return *hello;
  };
  const auto hello = greet();
  if (hello.ok()) {
    connection.hello_nonce = hello->nonce;
    connection.trusted = true;
    connection.sender = std::thread([this, &connection] { SendLoop(connection); });
    Deliver({connection.id, *hello, OkStatus()});
    TimePoint heard = clock_.Now();
    Status why;
    while (why.ok()) {
      auto message = ReceiveMessage(link, Deadline::In(seconds(1), clock_));
      if (message.ok()) {
        heard = clock_.Now();
        Deliver({connection.id, *std::move(message), OkStatus()});
      } else if (message.status().code() != StatusCode::kDeadlineExceeded) {
        why = message.status();
      } else if (closing_ || (hello->role == PeerRole::kClient && clock_.Now() - heard >= kClientIdle)) {
        why = DeadlineExceeded("nothing was said for long");
      }
    }
    Deliver({connection.id, std::nullopt, why});
  }
  link.Close();
  {
    const std::lock_guard lock(connection.mutex);
    connection.closing = true;
  }
  connection.filled.notify_all();
  connection.done = true;
}

void CoordinatorServer::SendLoop(Connection& connection) {
  std::unique_lock lock(connection.mutex);
  for (;;) {
    connection.filled.wait(lock, [&] { return connection.closing || connection.last || !connection.outbox.empty(); });
    if (connection.closing || connection.outbox.empty()) break;
    // Stays in the outbox until it is sent: an empty outbox means that nothing is under way.
    const std::vector<std::byte>& message = connection.outbox.front();
    lock.unlock();
    const Status sent = connection.link->Send(message, Deadline::In(kSendLimit, clock_));
    lock.lock();
    connection.outbox_bytes -= message.size();
    connection.outbox.pop_front();
    if (!sent.ok()) break;
  }
  connection.link->Close();
}

// Waits for room: then the kernel's buffers fill, and the peer waits too.
void CoordinatorServer::Deliver(Arrival arrival) {
  {
    std::unique_lock lock(mutex_);
    while (arrivals_.size() >= kArrivalsMax && !closing_) taken_.wait_for(lock, kNap);
    arrivals_.push_back(std::move(arrival));
  }
  arrived_.notify_one();
  if (options_.wake) options_.wake();
}

void CoordinatorServer::Turn(Deadline deadline) {
  std::deque<Arrival> arrivals;
  {
    std::unique_lock lock(mutex_);
    arrived_.wait_until(lock, deadline.at, [&] { return !arrivals_.empty(); });
    arrivals.swap(arrivals_);
  }
  taken_.notify_all();
  CarryOut();  // of what was asked from outside
  for (Arrival& arrival : arrivals) {
    Handle(arrival);
    CarryOut();
  }
  machine_.Tick(clock_.Now());
  CarryOut();
  Reap(false);
}

void CoordinatorServer::Handle(Arrival& arrival) {
  Connection* connection = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto found = connections_.find(arrival.connection);
    if (found == connections_.end()) return;
    connection = found->second.get();  // only this thread removes it
  }
  const TimePoint now = clock_.Now();
  const bool is_rank = connection->role == PeerRole::kRank;
  if (!arrival.message.has_value()) {
    if (is_rank) {
      connection_of_rank_.erase(connection->rank);
      machine_.LinkClosed(connection->rank, arrival.why, now);
    } else if (connection->role.has_value()) {
      --clients_;
    }
    return;
  }
  if (is_rank) return machine_.Receive(connection->rank, *arrival.message, now);
  if (connection->role == PeerRole::kClient) {
    const auto* query = std::get_if<Query>(&*arrival.message);
    if (query == nullptr) return Post(arrival.connection, Answer{false, "a client sends Query only"}, true);
    return Post(arrival.connection, options_.on_query ? options_.on_query(query->text) : Answer{false, "this job answers no questions"});
  }
  const auto& hello = std::get<Hello>(*arrival.message);  // Serve delivers a Hello first, always
  Status admitted;
  if (hello.role == PeerRole::kRank) {
    admitted = machine_.Join(hello, now);
  } else if (clients_ >= options_.clients_max) {
    admitted = ResourceExhausted(clients_, " clients are connected, more are not served");
  }
  if (!admitted.ok()) return Post(arrival.connection, Refused{Message(admitted)}, true);
  connection->role = hello.role;
  if (hello.role == PeerRole::kRank) {
    connection->rank = hello.rank;
    connection_of_rank_[hello.rank] = arrival.connection;
  } else {
    ++clients_;
  }
  const bool rank = hello.role == PeerRole::kRank;
  Welcome welcome{.job_description = rank ? options_.job.job_description : "", .deadline = options_.job.deadline};
  Post(arrival.connection, SignWelcome(options_.token, connection->challenge, hello.nonce, std::move(welcome)));
}

void CoordinatorServer::CarryOut() {
  for (Action& action : machine_.TakeActions()) {
    if (auto* send = std::get_if<SendTo>(&action)) {
      const auto found = connection_of_rank_.find(send->rank);
      if (found != connection_of_rank_.end()) Post(found->second, send->message);
    } else if (auto* notice = std::get_if<Notice>(&action)) {
      if (options_.on_notice) options_.on_notice(notice->level, notice->text);
    } else if (auto* reported = std::get_if<Reported>(&action)) {
      if (options_.on_event) options_.on_event(reported->rank, reported->text);
    }
    // The outcome is for whoever holds the server: machine().outcome().
  }
}

void CoordinatorServer::Post(int64_t id, const ControlMessage& message, bool last) {
  Connection* connection = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    connection = found->second.get();
  }
  std::vector<std::byte> bytes = Encode(message);
  bool overflow = false;
  {
    const std::lock_guard lock(connection->mutex);
    overflow = connection->outbox_bytes + bytes.size() > options_.outbox_bytes_max;
    connection->outbox_bytes += bytes.size();
    connection->outbox.push_back(std::move(bytes));
    connection->last = connection->last || last;
    connection->closing = connection->closing || overflow;
  }
  if (overflow) connection->link->Close();
  connection->filled.notify_all();
}

int CoordinatorServer::open_rank_links() const { return static_cast<int>(connection_of_rank_.size()); }

// Takes out connections whose threads are at their end and whose last arrival was handled; all of them at the end.
void CoordinatorServer::Reap(bool all) {
  std::vector<std::unique_ptr<Connection>> ended;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = connections_.begin(); it != connections_.end();) {
      const auto pending = [&](const Arrival& arrival) { return arrival.connection == it->first; };
      if (all || (it->second->done && std::none_of(arrivals_.begin(), arrivals_.end(), pending))) {
        ended.push_back(std::move(it->second));
        it = connections_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (const auto& connection : ended) connection->link->Close();
  for (const auto& connection : ended) {
    connection->receiver.join();
    if (connection->sender.joinable()) connection->sender.join();
  }
}

}  // namespace dtrain
