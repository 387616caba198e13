// base/transport.h in memory, by the real clock: messages take a while, links break. Delays and cuts are drawn from the
// seed, the link's number and its direction, so that threads do not disturb each other's draws.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "base/transport.h"

namespace dtrain {

struct SimTransportOptions {
  uint64_t seed = 0;
  Duration delay_max = {};            // of a message; order is kept
  double cut_chance = 0;              // that a message breaks its link: it and what is under way is lost, both ends see kUnavailable
  size_t queued_bytes_max = 8 << 20;  // in one direction; Send waits for room
};

class SimTransport final : public Transport {
 public:
  explicit SimTransport(const SimTransportOptions& options = {});
  ~SimTransport() override;

  // Hosts are names without meaning; port 0 takes any free port.
  StatusOr<std::unique_ptr<Listener>> Listen(const Address& address) override;
  StatusOr<std::unique_ptr<Link>> Connect(const Address& address, Deadline deadline) override;

  int64_t connects() const;  // so far
  // Every link made so far, and none made later, loses what is sent from now on without an error: the peer is frozen.
  void Mute();
  void CutAll();  // every link made so far breaks

 private:
  struct Wire;
  struct Port;
  class SimLink;
  class SimListener;
  const SimTransportOptions options_;
  mutable std::mutex mutex_;
  std::map<uint16_t, std::weak_ptr<Port>> ports_;
  std::vector<std::weak_ptr<Wire>> wires_;
  uint16_t next_port_ = 40'000;
};

}  // namespace dtrain
