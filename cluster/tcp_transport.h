// base/transport.h over TCP. A message is 4 bytes of length, little-endian, and that many bytes.
// What was read of a message before a deadline passed is kept for the next Receive. Numeric IPv4 addresses and host
// names; every descriptor is closed on exec.
#pragma once
#include "base/transport.h"

namespace dtrain {

struct TcpOptions {
  // A longer message is refused by Send (kInvalidArgument) and by Receive (kDataLoss). Memory grows with what has really
  // arrived, not with what a length announces.
  uint32_t message_bytes_max = 16 << 20;
  // Of the first message on an accepted link, while nobody knows who is at its other end.
  uint32_t first_message_bytes_max = 16 << 20;
  int backlog = 128;
};

class TcpTransport final : public Transport {
 public:
  explicit TcpTransport(const TcpOptions& options = {}) : options_(options) {}
  // kAlreadyExists if the port is taken, with a hint; kInvalidArgument for a host that is no address of this machine.
  StatusOr<std::unique_ptr<Listener>> Listen(const Address& address) override;
  // kUnavailable if nobody listens there; kNotFound for an unknown host.
  StatusOr<std::unique_ptr<Link>> Connect(const Address& address, Deadline deadline) override;

 private:
  const TcpOptions options_;
};

}  // namespace dtrain
