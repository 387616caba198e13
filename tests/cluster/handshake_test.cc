// Goal: only who knows the token gets in, and nothing of a handshake can be reused or changed. Method: sign, then change
// one thing at a time.
#include "cluster/handshake.h"

#include <gtest/gtest.h>

namespace dtrain {
namespace {

Nonce NonceOf(uint8_t value) {
  Nonce nonce;
  nonce.fill(std::byte{value});
  return nonce;
}

const Hello kHello{PeerRole::kRank, 1, 4, 99, "node", {}, {}};

TEST(Handshake, AHelloSignedWithTheTokenIsTaken) {
  const Hello hello = SignHello("token", NonceOf(1), kHello);
  EXPECT_TRUE(CheckHello("token", NonceOf(1), hello).ok());
  EXPECT_NE(hello.nonce, SignHello("token", NonceOf(1), kHello).nonce) << "a nonce was used twice";
}

TEST(Handshake, AnyChangeOfAHelloIsRefused) {
  const Hello hello = SignHello("token", NonceOf(1), kHello);
  const auto refused = [](const Nonce& challenge, const Hello& changed) {
    return CheckHello("token", challenge, changed).code() == StatusCode::kPermissionDenied;
  };
  EXPECT_TRUE(refused(NonceOf(2), hello)) << "replayed to another challenge";
  Hello changed = hello;
  changed.rank = 2;
  EXPECT_TRUE(refused(NonceOf(1), changed));
  changed = hello;
  changed.world_size = 5;
  EXPECT_TRUE(refused(NonceOf(1), changed));
  changed = hello;
  changed.role = PeerRole::kClient;
  EXPECT_TRUE(refused(NonceOf(1), changed));
  changed = hello;
  changed.pid = 100;
  EXPECT_TRUE(refused(NonceOf(1), changed));
  changed = hello;
  changed.host = "other";
  EXPECT_TRUE(refused(NonceOf(1), changed));
  changed = hello;
  changed.nonce = NonceOf(3);
  EXPECT_TRUE(refused(NonceOf(1), changed));
  changed = hello;
  changed.mac = {};
  EXPECT_TRUE(refused(NonceOf(1), changed));
  EXPECT_FALSE(CheckHello("other token", NonceOf(1), hello).ok());
  EXPECT_FALSE(CheckHello("", NonceOf(1), SignHello("", NonceOf(1), kHello)).ok()) << "no token is a token";
}

TEST(Handshake, AWelcomeProvesTheTokenToo) {
  const Welcome welcome = SignWelcome("token", NonceOf(1), NonceOf(2), {"job", std::chrono::seconds(5), {}});
  EXPECT_TRUE(CheckWelcome("token", NonceOf(1), NonceOf(2), welcome).ok());
  EXPECT_FALSE(CheckWelcome("token", NonceOf(1), NonceOf(3), welcome).ok());
  EXPECT_FALSE(CheckWelcome("other", NonceOf(1), NonceOf(2), welcome).ok());
  Welcome changed = welcome;
  changed.job_description = "another job";
  EXPECT_FALSE(CheckWelcome("token", NonceOf(1), NonceOf(2), changed).ok());
}

TEST(Handshake, AMeshHelloProvesEveryFieldAndOnlyForItsChallenge) {
  const MeshHello hello = SignMeshHello("token", NonceOf(1), {.from = 1, .to = 2, .world_size = 4, .view = 3, .lane = 0, .attempt = 5});
  EXPECT_TRUE(CheckMeshHello("token", NonceOf(1), hello).ok());
  EXPECT_FALSE(CheckMeshHello("token", NonceOf(2), hello).ok());
  EXPECT_FALSE(CheckMeshHello("other", NonceOf(1), hello).ok());
  EXPECT_FALSE(CheckMeshHello("", NonceOf(1), SignMeshHello("", NonceOf(1), hello)).ok());
  const std::vector<void (*)(MeshHello&)> changes = {[](MeshHello& it) { ++it.from; },
                                                     [](MeshHello& it) { ++it.to; },
                                                     [](MeshHello& it) { ++it.world_size; },
                                                     [](MeshHello& it) { ++it.view; },
                                                     [](MeshHello& it) { ++it.lane; },
                                                     [](MeshHello& it) { ++it.attempt; },
                                                     [](MeshHello& it) { it.nonce = NonceOf(9); },
                                                     [](MeshHello& it) { it.mac = {}; }};
  for (size_t i = 0; i < changes.size(); ++i) {
    MeshHello changed = hello;
    changes[i](changed);
    EXPECT_EQ(CheckMeshHello("token", NonceOf(1), changed).code(), StatusCode::kPermissionDenied) << "change " << i;
  }
  const MeshWelcome welcome = SignMeshWelcome("token", NonceOf(1), hello);
  EXPECT_TRUE(CheckMeshWelcome("token", NonceOf(1), hello, welcome).ok());
  EXPECT_FALSE(CheckMeshWelcome("token", NonceOf(1), hello, {hello.mac}).ok()) << "a hello sent back is no welcome";
  EXPECT_FALSE(CheckMeshWelcome("other", NonceOf(1), hello, welcome).ok());
}

}  // namespace
}  // namespace dtrain
