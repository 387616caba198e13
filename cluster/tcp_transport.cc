#include "cluster/tcp_transport.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace dtrain {
namespace {

using std::chrono::milliseconds;

constexpr size_t kLengthBytes = 4;
constexpr size_t kReadBytes = 64 << 10;

std::string ErrorText(int error) { return std::strerror(error); }
std::string Named(const Address& address) { return Cat(address.host, ":", address.port); }

std::string Named(const sockaddr_in& address) {
  std::array<char, NI_MAXHOST> host = {};
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&address), sizeof address, host.data(), host.size(), nullptr, 0, NI_NUMERICHOST) != 0) {
    return "?";
  }
  return Cat(host.data(), ":", ntohs(address.sin_port));
}

// A descriptor that is closed with its owner.
class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&&) = delete;
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

// Until one of `events` (or an error, which the next call on the descriptor tells) or the deadline.
Status WaitFor(int fd, short events, Deadline deadline) {
  for (;;) {
    const Duration left = deadline.Left();
    // Rounded up, so that a wait does not end just before its deadline; in pieces, so that it fits an int.
    const auto wait = std::clamp(std::chrono::ceil<milliseconds>(left), milliseconds(0), milliseconds(3'600'000));
    pollfd poll_fd = {.fd = fd, .events = events};
    const int ready = poll(&poll_fd, 1, static_cast<int>(wait.count()));
    if (ready > 0) return OkStatus();
    if (ready < 0 && errno != EINTR) return Unavailable("poll: ", ErrorText(errno));
    if (deadline.Passed()) return DeadlineExceeded("nothing happened in time");
  }
}

class TcpLink final : public Link {
 public:
  TcpLink(Socket socket, std::string peer, uint32_t message_bytes_max, uint32_t first_bytes_max)
      : socket_(std::move(socket)),
        peer_(std::move(peer)),
        message_bytes_max_(message_bytes_max),
        receive_bytes_max_(std::min(first_bytes_max, message_bytes_max)) {
    const int on = 1;
    setsockopt(socket_.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }

  Status Send(std::span<const std::byte> message, Deadline deadline) override {
    if (message.size() > message_bytes_max_) {
      return InvalidArgument("send to ", peer_, ": a message of ", message.size(), " bytes exceeds the limit of ", message_bytes_max_);
    }
    const auto length = static_cast<uint32_t>(message.size());
    std::array<std::byte, kLengthBytes> head;
    std::memcpy(head.data(), &length, sizeof length);
    const size_t total = kLengthBytes + message.size();
    for (size_t sent = 0; sent < total;) {
      if (closed_) return Unavailable("send to ", peer_, ": the link is closed");
      const size_t head_sent = std::min(sent, kLengthBytes);
      const auto rest = message.subspan(sent - head_sent);
      std::array<iovec, 2> parts = {iovec{head.data() + head_sent, kLengthBytes - head_sent},
                                    iovec{const_cast<std::byte*>(rest.data()), rest.size()}};
      msghdr what = {};
      what.msg_iov = parts.data();
      what.msg_iovlen = parts.size();
      const ssize_t count = sendmsg(socket_.fd(), &what, MSG_NOSIGNAL);
      if (count >= 0) {
        sent += static_cast<size_t>(count);
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        RETURN_IF_ERROR(Annotate(WaitFor(socket_.fd(), POLLOUT, deadline), Cat("send to ", peer_)));
      } else if (errno != EINTR) {
        return Unavailable("send to ", peer_, ": ", ErrorText(errno));
      }
    }
    return OkStatus();
  }

  StatusOr<std::vector<std::byte>> Receive(Deadline deadline) override {
    for (;;) {
      if (length_.has_value() && message_.size() == *length_) {
        length_.reset();
        receive_bytes_max_ = message_bytes_max_;
        return std::exchange(message_, {});
      }
      if (closed_) return Unavailable("receive from ", peer_, ": the link is closed");
      RETURN_IF_ERROR(ReadSome(deadline));
    }
  }

  // Shuts down only: the descriptor stays ours until nobody can be in a call on it.
  void Close() override {
    closed_ = true;
    shutdown(socket_.fd(), SHUT_RDWR);
  }
  std::string peer() const override { return peer_; }

 private:
  Status ReadSome(Deadline deadline) {
    std::array<std::byte, kReadBytes> buffer;
    const size_t wanted = length_.has_value() ? std::min(buffer.size(), *length_ - message_.size()) : kLengthBytes - head_.size();
    const ssize_t count = recv(socket_.fd(), buffer.data(), wanted, 0);
    if (count == 0) {
      const bool inside = length_.has_value() || !head_.empty();
      return Unavailable("receive from ", peer_, ": the peer closed the connection", inside ? " inside a message" : "");
    }
    if (count < 0) {
      if (errno == EINTR) return OkStatus();
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return Annotate(WaitFor(socket_.fd(), POLLIN, deadline), Cat("receive from ", peer_));
      }
      return Unavailable("receive from ", peer_, ": ", ErrorText(errno));
    }
    auto& to = length_.has_value() ? message_ : head_;
    to.insert(to.end(), buffer.begin(), buffer.begin() + count);
    if (!length_.has_value() && head_.size() == kLengthBytes) {
      uint32_t length = 0;
      std::memcpy(&length, head_.data(), sizeof length);
      head_.clear();
      if (length > receive_bytes_max_) {
        Close();
        return DataLoss("receive from ", peer_, ": a message of ", length, " bytes is announced, the limit is ", receive_bytes_max_);
      }
      length_ = length;
    }
    return OkStatus();
  }

  const Socket socket_;
  const std::string peer_;
  const uint32_t message_bytes_max_;
  std::atomic<bool> closed_ = false;
  // Of the message that is arriving; the receiver's alone.
  uint32_t receive_bytes_max_;
  std::vector<std::byte> head_, message_;
  std::optional<size_t> length_;
};

class TcpListener final : public Listener {
 public:
  TcpListener(Socket socket, Address address, const TcpOptions& options)
      : socket_(std::move(socket)), address_(std::move(address)), options_(options) {}

  StatusOr<std::unique_ptr<Link>> Accept(Deadline deadline) override {
    for (;;) {
      sockaddr_in from = {};
      socklen_t from_bytes = sizeof from;
      const int fd = accept4(socket_.fd(), reinterpret_cast<sockaddr*>(&from), &from_bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd >= 0) return std::make_unique<TcpLink>(Socket(fd), Named(from), options_.message_bytes_max, options_.first_message_bytes_max);
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        RETURN_IF_ERROR(Annotate(WaitFor(socket_.fd(), POLLIN, deadline), Cat("accept on ", Named(address_))));
      } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        return ResourceExhausted("accept on ", Named(address_), ": ", ErrorText(errno));
      } else if (errno != EINTR && errno != ECONNABORTED) {
        return Unavailable("accept on ", Named(address_), ": ", ErrorText(errno));
      }
    }
  }
  Address address() const override { return address_; }

 private:
  const Socket socket_;
  const Address address_;
  const TcpOptions options_;
};

StatusOr<sockaddr_in> Resolve(const Address& address) {
  addrinfo hints = {};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.host.c_str(), nullptr, &hints, &found);
  if (error != 0 || found == nullptr) return NotFound("no IPv4 address for host \"", address.host, "\": ", gai_strerror(error));
  sockaddr_in resolved;
  std::memcpy(&resolved, found->ai_addr, sizeof resolved);
  freeaddrinfo(found);
  resolved.sin_port = htons(address.port);
  return resolved;
}

sockaddr_in LocalName(int fd) {
  sockaddr_in name = {};
  socklen_t bytes = sizeof name;
  getsockname(fd, reinterpret_cast<sockaddr*>(&name), &bytes);
  return name;
}

}  // namespace

StatusOr<std::unique_ptr<Listener>> TcpTransport::Listen(const Address& address) {
  const std::string what = Cat("listen on ", Named(address));
  auto resolved = Resolve(address);
  if (!resolved.ok()) return Annotate(resolved.status(), what);
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.fd() < 0) return ResourceExhausted(what, ": ", ErrorText(errno));
  const int on = 1;
  setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(socket.fd(), reinterpret_cast<const sockaddr*>(&*resolved), sizeof *resolved) != 0 ||
      listen(socket.fd(), options_.backlog) != 0) {
    const int error = errno;
    if (error == EADDRINUSE) {
      return WithHint(AlreadyExists(what, ": the port is taken by another process"),
                      Cat("choose another port, or 0 for any free one; `ss -ltnp 'sport = :", address.port, "'` shows who has it"));
    }
    if (error == EADDRNOTAVAIL) {
      return WithHint(InvalidArgument(what, ": this machine has no such address"), "`ip -brief address` lists those it has");
    }
    if (error == EACCES) return WithHint(PermissionDenied(what, ": ", ErrorText(error)), "ports below 1024 need privileges");
    return Unavailable(what, ": ", ErrorText(error));
  }
  return std::make_unique<TcpListener>(std::move(socket), Address{address.host, ntohs(LocalName(socket.fd()).sin_port)}, options_);
}

StatusOr<std::unique_ptr<Link>> TcpTransport::Connect(const Address& address, Deadline deadline) {
  const std::string what = Cat("connect to ", Named(address));
  auto resolved = Resolve(address);
  if (!resolved.ok()) return Annotate(resolved.status(), what);
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.fd() < 0) return ResourceExhausted(what, ": ", ErrorText(errno));
  if (connect(socket.fd(), reinterpret_cast<const sockaddr*>(&*resolved), sizeof *resolved) != 0) {
    if (errno != EINPROGRESS && errno != EINTR) return Unavailable(what, ": ", ErrorText(errno));
    RETURN_IF_ERROR(Annotate(WaitFor(socket.fd(), POLLOUT, deadline), what));
    int error = 0;
    socklen_t bytes = sizeof error;
    getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &bytes);
    if (error != 0) return Unavailable(what, ": ", ErrorText(error));
  }
  // Nobody listens on a port of the range that the kernel gives out, and the kernel gave us just that one: TCP then
  // connects a socket to itself.
  if (const sockaddr_in own = LocalName(socket.fd());
      own.sin_port == resolved->sin_port && own.sin_addr.s_addr == resolved->sin_addr.s_addr) {
    return Unavailable(what, ": nobody listens there");
  }
  return std::make_unique<TcpLink>(std::move(socket), Named(address), options_.message_bytes_max, options_.message_bytes_max);
}

}  // namespace dtrain
