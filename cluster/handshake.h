// How two processes find out that both know the job's token, without sending it: each proves it over a nonce of the
// other. coordinator: Challenge{nonce} -> peer: Hello{nonce, HMAC} -> coordinator: Welcome{HMAC} or Refused.
// HMAC-SHA-256 (RFC 2104) covers both nonces and what the message says, so nothing of it can be replayed or changed.
#pragma once
#include <string_view>

#include "base/transport.h"
#include "cluster/messages.h"

namespace dtrain {

// `hello` with its mac, for the challenge that was received. Sets hello.nonce anew.
Hello SignHello(std::string_view token, const Nonce& challenge, Hello hello);
// kPermissionDenied if the mac is not the token's.
Status CheckHello(std::string_view token, const Nonce& challenge, const Hello& hello);
Welcome SignWelcome(std::string_view token, const Nonce& challenge, const Nonce& hello_nonce, Welcome welcome);
Status CheckWelcome(std::string_view token, const Nonce& challenge, const Nonce& hello_nonce, const Welcome& welcome);

// The peer's side of it, over a fresh link. kPermissionDenied with the coordinator's reason if it refuses, or if it does
// not know the token itself; kUnavailable, kDeadlineExceeded, kDataLoss as the link has them.
StatusOr<Welcome> Introduce(Link& link, std::string_view token, const Hello& hello, Deadline deadline);

// The same between two ranks (cluster/mesh.h): Challenge, MeshHello, MeshWelcome or Refused.
MeshHello SignMeshHello(std::string_view token, const Nonce& challenge, MeshHello hello);  // sets nonce and mac anew
Status CheckMeshHello(std::string_view token, const Nonce& challenge, const MeshHello& hello);
MeshWelcome SignMeshWelcome(std::string_view token, const Nonce& challenge, const MeshHello& hello);
Status CheckMeshWelcome(std::string_view token, const Nonce& challenge, const MeshHello& hello, const MeshWelcome& welcome);
Status IntroduceRank(Link& link, std::string_view token, const MeshHello& hello, Deadline deadline);

// One message off a link, decoded; `Message` must be what arrives, else kDataLoss.
StatusOr<ControlMessage> ReceiveMessage(Link& link, Deadline deadline);
Status SendMessage(Link& link, const ControlMessage& message, Deadline deadline);

// The name of this machine, for Hello and processes.json.
std::string HostName();

}  // namespace dtrain
