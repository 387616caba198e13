// Goal: a rank tells the others an address by which they really reach it, or says what to set. Method: the loopback
// interface, which every machine has, and lists made by hand.
#include "cluster/local_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dtrain {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(LocalAddress, LoopbackIsToldByItsLook) {
  for (const char* host : {"localhost", "127.0.0.1", "127.0.1.1"}) EXPECT_TRUE(IsLoopback(host));
  for (const char* host : {"", "node1", "128.0.0.1", "10.127.0.1", "localhost.example.org"}) EXPECT_FALSE(IsLoopback(host));
}

TEST(LocalAddress, TheWayToLoopbackIsLoopback) {
  EXPECT_EQ(AddressTowards({"127.0.0.1", 80}).value_or("?"), "127.0.0.1");
  EXPECT_EQ(AddressTowards({"localhost", 0}).value_or("?"), "127.0.0.1");
  const auto unknown = AddressTowards({"no-such-host.invalid", 80});
  EXPECT_EQ(unknown.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(unknown.status()), HasSubstr("no-such-host.invalid"));
}

TEST(LocalAddress, AnInterfaceIsFoundByNameAndByAddress) {
  EXPECT_EQ(AddressOf("lo").value_or("?"), "127.0.0.1");
  EXPECT_EQ(AddressOf("127.0.0.1").value_or("?"), "127.0.0.1");
  const auto unknown = AddressOf("eth77");
  EXPECT_EQ(unknown.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(unknown.status()), AllOf(HasSubstr("\"eth77\""), HasSubstr("lo (127.0.0.1)")));
}

TEST(LocalAddress, ListensWhereTheOthersConnect) {
  EXPECT_EQ(ListenAddress("127.0.0.1", "").value_or("?"), "127.0.0.1");
  EXPECT_EQ(ListenAddress("localhost", "").value_or("?"), "127.0.0.1");
  EXPECT_EQ(ListenAddress("192.0.2.77", "lo").value_or("?"), "127.0.0.1") << "the interface decides";
  const auto elsewhere = ListenAddress("203.0.113.9", "");
  EXPECT_EQ(elsewhere.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(elsewhere.status()), AllOf(HasSubstr("\"203.0.113.9\" is another host"), HasSubstr("on which rank 0 runs")));
}

TEST(LocalAddress, TheOneThatIsNotLoopbackOrTheWayToTheWorld) {
  const InterfaceAddress lo{"lo", "127.0.0.1"}, eth{"eth0", "10.0.0.5"}, bridge{"docker0", "172.17.0.1"};
  EXPECT_EQ(ChooseAddress({lo, eth}, "").value_or("?"), "10.0.0.5");
  EXPECT_EQ(ChooseAddress({lo, bridge, eth}, "10.0.0.5").value_or("?"), "10.0.0.5");
  EXPECT_EQ(ChooseAddress({lo, eth}, "127.0.0.1").value_or("?"), "10.0.0.5") << "loopback never leads there";
  EXPECT_THAT(Message(ChooseAddress({lo, bridge, eth}, "").status()),
              AllOf(HasSubstr("docker0 (172.17.0.1), eth0 (10.0.0.5)"), HasSubstr("strategy.interface")));
  EXPECT_THAT(Message(ChooseAddress({lo}, "").status()), HasSubstr("no address by which another could reach it"));
}

}  // namespace
}  // namespace dtrain
