#include "cluster/handshake.h"

#include <unistd.h>

#include <array>

#include "base/codec.h"

namespace dtrain {
namespace {

// The first text keeps the proofs of the two sides apart: one cannot be sent back as the other.
Mac HelloMac(std::string_view token, const Nonce& challenge, const Hello& hello) {
  Encoder said;
  said.String("dtrain hello");
  said.Bytes(challenge);
  said.Bytes(hello.nonce);
  said.U8(static_cast<uint8_t>(hello.role));
  said.I64(hello.rank);
  said.I64(hello.world_size);
  said.I64(hello.pid);
  said.String(hello.host);
  return HmacSha256(token, said.bytes());
}

Mac WelcomeMac(std::string_view token, const Nonce& challenge, const Nonce& hello_nonce, const Welcome& welcome) {
  Encoder said;
  said.String("dtrain welcome");
  said.Bytes(challenge);
  said.Bytes(hello_nonce);
  said.String(welcome.job_description);
  said.I64(welcome.deadline.count());
  return HmacSha256(token, said.bytes());
}

Mac MeshMac(std::string_view label, std::string_view token, const Nonce& challenge, const MeshHello& hello) {
  Encoder stated;
  stated.String(label);
  stated.Bytes(challenge);
  stated.Bytes(hello.nonce);
  for (const int64_t number :
       {int64_t{hello.from}, int64_t{hello.to}, int64_t{hello.world_size}, hello.view, int64_t{hello.lane}, hello.attempt}) {
    stated.I64(number);
  }
  return HmacSha256(token, stated.bytes());
}

}  // namespace

Hello SignHello(std::string_view token, const Nonce& challenge, Hello hello) {
  hello.nonce = SecureRandom();
  hello.mac = HelloMac(token, challenge, hello);
  return hello;
}

Status CheckHello(std::string_view token, const Nonce& challenge, const Hello& hello) {
  if (!token.empty() && EqualInConstantTime(HelloMac(token, challenge, hello), hello.mac)) return OkStatus();
  return PermissionDenied("the token is not this job's");
}

Welcome SignWelcome(std::string_view token, const Nonce& challenge, const Nonce& hello_nonce, Welcome welcome) {
  welcome.mac = WelcomeMac(token, challenge, hello_nonce, welcome);
  return welcome;
}

Status CheckWelcome(std::string_view token, const Nonce& challenge, const Nonce& hello_nonce, const Welcome& welcome) {
  if (EqualInConstantTime(WelcomeMac(token, challenge, hello_nonce, welcome), welcome.mac)) return OkStatus();
  return PermissionDenied("who answers there does not know the job's token");
}

MeshHello SignMeshHello(std::string_view token, const Nonce& challenge, MeshHello hello) {
  hello.nonce = SecureRandom();
  hello.mac = MeshMac("dtrain mesh hello", token, challenge, hello);
  return hello;
}

Status CheckMeshHello(std::string_view token, const Nonce& challenge, const MeshHello& hello) {
  if (!token.empty() && EqualInConstantTime(MeshMac("dtrain mesh hello", token, challenge, hello), hello.mac)) return OkStatus();
  return PermissionDenied("the token is not this job's");
}

MeshWelcome SignMeshWelcome(std::string_view token, const Nonce& challenge, const MeshHello& hello) {
  return {MeshMac("dtrain mesh welcome", token, challenge, hello)};
}

Status CheckMeshWelcome(std::string_view token, const Nonce& challenge, const MeshHello& hello, const MeshWelcome& welcome) {
  if (EqualInConstantTime(SignMeshWelcome(token, challenge, hello).mac, welcome.mac)) return OkStatus();
  return PermissionDenied("who answers there does not know the job's token");
}

Status IntroduceRank(Link& link, std::string_view token, const MeshHello& hello, Deadline deadline) {
  ASSIGN_OR_RETURN(const ControlMessage first, ReceiveMessage(link, deadline));
  const auto* challenge = std::get_if<Challenge>(&first);
  if (challenge == nullptr) return DataLoss("found ", NameOf(first), ", expected Challenge");
  const MeshHello signed_hello = SignMeshHello(token, challenge->nonce, hello);
  RETURN_IF_ERROR(SendMessage(link, signed_hello, deadline));
  ASSIGN_OR_RETURN(const ControlMessage second, ReceiveMessage(link, deadline));
  if (const auto* refused = std::get_if<Refused>(&second)) return PermissionDenied("refused: ", refused->why);
  const auto* welcome = std::get_if<MeshWelcome>(&second);
  if (welcome == nullptr) return DataLoss("found ", NameOf(second), ", expected MeshWelcome");
  return CheckMeshWelcome(token, challenge->nonce, signed_hello, *welcome);
}

StatusOr<ControlMessage> ReceiveMessage(Link& link, Deadline deadline) {
  ASSIGN_OR_RETURN(const auto bytes, link.Receive(deadline));
  auto message = Decode(bytes);
  if (!message.ok()) return Annotate(message.status(), Cat("receive from ", link.peer()));
  return message;
}

Status SendMessage(Link& link, const ControlMessage& message, Deadline deadline) { return link.Send(Encode(message), deadline); }

StatusOr<Welcome> Introduce(Link& link, std::string_view token, const Hello& hello, Deadline deadline) {
  const std::string what = Cat("introduce ourselves to the job at ", link.peer());
  ASSIGN_OR_RETURN(const ControlMessage first, ReceiveMessage(link, deadline));
  const auto* challenge = std::get_if<Challenge>(&first);
  if (challenge == nullptr) return DataLoss(what, ": found ", NameOf(first), ", expected Challenge");
  const Hello signed_hello = SignHello(token, challenge->nonce, hello);
  RETURN_IF_ERROR(SendMessage(link, signed_hello, deadline));
  ASSIGN_OR_RETURN(const ControlMessage second, ReceiveMessage(link, deadline));
  if (const auto* refused = std::get_if<Refused>(&second)) return PermissionDenied(what, ": refused: ", refused->why);
  const auto* welcome = std::get_if<Welcome>(&second);
  if (welcome == nullptr) return DataLoss(what, ": found ", NameOf(second), ", expected Welcome");
  RETURN_IF_ERROR(Annotate(CheckWelcome(token, challenge->nonce, signed_hello.nonce, *welcome), what));
  return *welcome;
}

std::string HostName() {
  std::array<char, 256> name = {};
  if (gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

}  // namespace dtrain
