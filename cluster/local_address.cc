#include "cluster/local_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "cluster/file_descriptor.h"

namespace dtrain {
namespace {

std::string TextOf(const sockaddr_in& address) {
  std::array<char, INET_ADDRSTRLEN> text = {};
  inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
  return text.data();
}

StatusOr<sockaddr_in> Resolve(const std::string& host) {
  addrinfo hints = {};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0 || found == nullptr) return NotFound("no IPv4 address for host \"", host, "\": ", gai_strerror(error));
  sockaddr_in resolved;
  std::memcpy(&resolved, found->ai_addr, sizeof resolved);
  freeaddrinfo(found);
  return resolved;
}

// Of every interface that is up.
std::vector<InterfaceAddress> OwnAddresses() {
  std::vector<InterfaceAddress> all;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return all;
  for (const ifaddrs* it = list; it != nullptr; it = it->ifa_next) {
    if (it->ifa_addr == nullptr || it->ifa_addr->sa_family != AF_INET || (it->ifa_flags & IFF_UP) == 0) continue;
    sockaddr_in address;
    std::memcpy(&address, it->ifa_addr, sizeof address);
    all.push_back({it->ifa_name, TextOf(address)});
  }
  freeifaddrs(list);
  return all;
}

std::string Listed(const std::vector<InterfaceAddress>& all) {
  std::vector<std::string> texts;
  for (const InterfaceAddress& it : all) texts.push_back(Cat(it.interface, " (", it.address, ")"));
  return texts.empty() ? "none" : Join(texts, ", ");
}

}  // namespace

bool IsLoopback(std::string_view host) { return host == "localhost" || host.starts_with("127."); }

StatusOr<std::string> AddressTowards(const Address& peer) {
  const std::string what = Cat("find the own address towards ", peer.host);
  auto to = Resolve(peer.host);
  if (!to.ok()) return Annotate(to.status(), what);
  to->sin_port = htons(peer.port == 0 ? 9 : peer.port);
  // Connecting a datagram socket only asks for the route.
  const FileDescriptor fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.open()) return ResourceExhausted(what, ": ", std::strerror(errno));
  if (connect(fd.fd(), reinterpret_cast<const sockaddr*>(&*to), sizeof *to) != 0) return Unavailable(what, ": ", std::strerror(errno));
  sockaddr_in own = {};
  socklen_t bytes = sizeof own;
  if (getsockname(fd.fd(), reinterpret_cast<sockaddr*>(&own), &bytes) != 0) return Unavailable(what, ": ", std::strerror(errno));
  return TextOf(own);
}

StatusOr<std::string> AddressOf(std::string_view interface) {
  const auto all = OwnAddresses();
  for (const InterfaceAddress& it : all) {
    if (it.interface == interface || it.address == interface) return it.address;
  }
  return NotFound("this host has no interface or address \"", interface, "\"; it has ", Listed(all));
}

StatusOr<std::string> ChooseAddress(const std::vector<InterfaceAddress>& all, const std::string& towards_the_world) {
  std::vector<InterfaceAddress> others;
  for (const InterfaceAddress& it : all) {
    if (!IsLoopback(it.address)) others.push_back(it);
  }
  const auto named = [&](const InterfaceAddress& it) { return it.address == towards_the_world; };
  if (std::any_of(others.begin(), others.end(), named)) return towards_the_world;
  if (others.size() == 1) return others.front().address;
  if (others.empty()) return FailedPrecondition("this host has no address by which another could reach it");
  return WithHint(FailedPrecondition("this host has several addresses: ", Listed(others)),
                  "say which one with strategy.interface, or name it as the rendezvous");
}

StatusOr<std::string> ReachableHost(const std::string& host, std::string_view interface) {
  if (IsLoopback(host)) return host;
  ASSIGN_OR_RETURN(const sockaddr_in resolved, Resolve(host));
  if (!IsLoopback(TextOf(resolved))) return host;
  return ListenAddress(host, interface);
}

StatusOr<std::string> ListenAddress(const std::string& host, std::string_view interface) {
  if (!interface.empty()) return AddressOf(interface);
  const auto all = OwnAddresses();
  if (!host.empty()) {
    ASSIGN_OR_RETURN(const sockaddr_in resolved, Resolve(host));
    const std::string address = TextOf(resolved);
    if (IsLoopback(host)) return address;
    if (!IsLoopback(address)) {
      if (std::any_of(all.begin(), all.end(), [&](const InterfaceAddress& it) { return it.address == address; })) return address;
      return WithHint(
          InvalidArgument("\"", host, "\"", host == address ? "" : Cat(" (", address, ")"), " is another host; this one has ", Listed(all)),
          "the rendezvous is an address of the host on which rank 0 runs");
    }
  }
  // The documentation network (RFC 5737): on the way to it lies whatever leads to the world.
  const auto world = AddressTowards({"198.51.100.1", 9});
  return ChooseAddress(all, world.ok() ? *world : "");
}

}  // namespace dtrain
