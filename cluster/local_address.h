// By which of its addresses this host is reached: what a rank tells the others. IPv4.
// Beware of the own host's name: Debian's /etc/hosts resolves it to 127.0.1.1, which no other host reaches.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/transport.h"

namespace dtrain {

// "localhost" and 127.x.y.z: what is reached there is on this host.
bool IsLoopback(std::string_view host);

// The address of the interface by which `peer` is reached. Sends nothing. kNotFound for an unknown host, kUnavailable if
// no way leads there.
StatusOr<std::string> AddressTowards(const Address& peer);

// The address of this host that `interface` means: a network interface ("eth0"), or an address that is given back as it
// is if it is one of this host's. kNotFound lists what there is.
StatusOr<std::string> AddressOf(std::string_view interface);

// Where to listen so that whoever connects to `host` arrives: `interface` if that is not empty; else the address that `host`
// resolves to; if that is a loopback address but `host` does not look like one (Debian's habit), or if `host` is empty, the
// one address of this host that is not. kFailedPrecondition lists several and asks for an interface; kInvalidArgument if
// `host` is another host.
StatusOr<std::string> ListenAddress(const std::string& host, std::string_view interface);

// The address by which this host reaches `host`: `host` itself, unless it leads to a loopback address without looking like one:
// then `host` is this very host, and ListenAddress says where it listens.
StatusOr<std::string> ReachableHost(const std::string& host, std::string_view interface);

struct InterfaceAddress {
  std::string interface, address;
};
// The rule for "the one that is not": that of the route to the world, else the only one. Pure, for tests.
StatusOr<std::string> ChooseAddress(const std::vector<InterfaceAddress>& all, const std::string& towards_the_world);

}  // namespace dtrain
