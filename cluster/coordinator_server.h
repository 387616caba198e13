// The coordinator with links: accepts peers, lets in those that prove the token, feeds cluster/coordinator.h with what
// arrives and sends what it says. The launcher holds one; under mpirun rank 0 would, in a thread.
// Strangers do not disturb the job: whoever has not proved the token within `hello_limit` is cut, of more than
// `strangers_max` the oldest is, and none of their bytes reach the state machine.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/transport.h"
#include "cluster/coordinator.h"

namespace dtrain {

struct CoordinatorServerOptions {
  CoordinatorOptions job;
  std::string token;
  Duration hello_limit = std::chrono::seconds(5);
  int strangers_max = 32;
  int clients_max = 16;
  size_t outbox_bytes_max = 32 << 20;  // a peer that lets more pile up is cut
  // All called by the thread that calls Turn.
  std::function<void(int rank, const std::string& event)> on_event;
  std::function<void(LogLevel level, const std::string& text)> on_notice;
  std::function<Answer(const std::string& query)> on_query;
  // Called by any thread when there is something to do for Turn; for a loop that sleeps in poll. May be empty.
  std::function<void()> wake;
};

class CoordinatorServer {
 public:
  // Starts to accept at once; the start limit begins now.
  CoordinatorServer(std::unique_ptr<Listener> listener, CoordinatorServerOptions options, const Clock& clock = SystemClock());
  ~CoordinatorServer();  // what was said last still goes out, then every link is closed
  CoordinatorServer(const CoordinatorServer&) = delete;
  CoordinatorServer& operator=(const CoordinatorServer&) = delete;

  Address address() const { return listener_->address(); }

  // Sleeps until something arrived or `deadline`, handles all that arrived, then ticks the state machine and carries out
  // its actions. Call often: at least every deadline / 5.
  void Turn(Deadline deadline);

  // The state machine, for the thread that calls Turn: events of its own (ProcessEnded, RequestStop) and questions.
  // Their actions are carried out by the next Turn.
  Coordinator& machine() { return machine_; }

  // Ranks whose link is open; what was sent to the others has reached the kernel or never will.
  int open_rank_links() const;

 private:
  struct Connection;
  struct Arrival;
  void AcceptLoop();
  void Serve(Connection& connection);
  void SendLoop(Connection& connection);
  void Deliver(Arrival arrival);
  void Handle(Arrival& arrival);
  void CarryOut();
  void Post(int64_t connection, const ControlMessage& message, bool last = false);
  void Reap(bool all);
  bool Flushed();

  const CoordinatorServerOptions options_;
  const Clock& clock_;
  const std::unique_ptr<Listener> listener_;
  Coordinator machine_;
  std::map<int, int64_t> connection_of_rank_;  // Turn's thread only
  int clients_ = 0;                            // Turn's thread only

  mutable std::mutex mutex_;
  std::condition_variable arrived_, taken_;
  std::deque<Arrival> arrivals_;
  std::map<int64_t, std::unique_ptr<Connection>> connections_;  // by id, so the oldest first
  int64_t next_connection_ = 0;
  std::atomic<bool> closing_ = false;
  std::thread acceptor_;
};

}  // namespace dtrain
