// Messages between processes as a seam: production uses TCP (cluster/tcp_transport.h), tests use
// tests/sim/sim_transport.h, which delays, drops and cuts by seed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace dtrain {

struct Address {
  std::string host;
  uint16_t port = 0;
};

// One ordered, reliable connection that carries whole messages. Send and Receive may be called by two threads at once;
// neither by two threads for the same direction.
class Link {
 public:
  virtual ~Link() = default;
  // kDeadlineExceeded; kUnavailable once the peer is gone. After an error the link is only good for Close.
  virtual Status Send(std::span<const std::byte> message, Deadline deadline) = 0;
  // The next message. kDeadlineExceeded leaves the link usable; kUnavailable when the peer is gone; kDataLoss if what
  // arrived is no message or exceeds the size limit.
  virtual StatusOr<std::vector<std::byte>> Receive(Deadline deadline) = 0;
  virtual void Close() = 0;              // from any thread; wakes both directions with kUnavailable
  virtual std::string peer() const = 0;  // for messages to people
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual StatusOr<std::unique_ptr<Link>> Accept(Deadline deadline) = 0;
  virtual Address address() const = 0;  // with the port that was really taken
};

class Transport {
 public:
  virtual ~Transport() = default;
  // Port 0 takes any free port.
  virtual StatusOr<std::unique_ptr<Listener>> Listen(const Address& address) = 0;
  virtual StatusOr<std::unique_ptr<Link>> Connect(const Address& address, Deadline deadline) = 0;
};

}  // namespace dtrain
