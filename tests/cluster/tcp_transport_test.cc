// Goal: whole messages over TCP, whatever the pieces they arrive in, and a clear error for everything else. Method: our own
// ends against each other, and a raw socket that says what no program of ours would.
#include "cluster/tcp_transport.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "base/rng.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

std::vector<std::byte> Bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}
Deadline Soon() { return Deadline::In(seconds(20)); }

class TcpTest : public testing::Test {
 protected:
  void SetUp() override {
    auto listener = transport_.Listen({"127.0.0.1", 0});
    ASSERT_TRUE(listener.ok()) << listener.status().message();
    listener_ = *std::move(listener);
  }
  void Connect() {
    auto a = transport_.Connect(listener_->address(), Soon());
    ASSERT_TRUE(a.ok()) << a.status().message();
    auto b = listener_->Accept(Soon());
    ASSERT_TRUE(b.ok()) << b.status().message();
    a_ = *std::move(a);
    b_ = *std::move(b);
  }
  // A peer that is not ours.
  int Raw() {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(listener_->address().port);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    auto link = listener_->Accept(Soon());
    EXPECT_TRUE(link.ok());
    b_ = *std::move(link);
    return fd;
  }
  static void Write(int fd, std::string_view bytes) {
    ASSERT_EQ(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  TcpTransport transport_{{.message_bytes_max = 1 << 20}};
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Link> a_, b_;
};

TEST_F(TcpTest, MessagesArriveWholeAndInOrderBothWaysAtOnce) {
  Connect();
  const auto talk = [](Link& link, uint64_t seed) {
    Rng rng(seed, RngPurpose::kSynthetic);
    for (int i = 0; i < 300; ++i) {
      std::vector<std::byte> message(i % 50 == 0 ? 1 << 20 : rng.Below(5000));
      for (std::byte& byte : message) byte = std::byte{static_cast<uint8_t>(rng.Next())};
      ASSERT_TRUE(link.Send(message, Soon()).ok());
    }
  };
  const auto listen = [](Link& link, uint64_t seed) {
    Rng rng(seed, RngPurpose::kSynthetic);
    for (int i = 0; i < 300; ++i) {
      const auto message = link.Receive(Soon());
      ASSERT_TRUE(message.ok()) << message.status().message();
      ASSERT_EQ(message->size(), i % 50 == 0 ? 1 << 20 : rng.Below(5000));
      for (const std::byte byte : *message) ASSERT_EQ(byte, std::byte{static_cast<uint8_t>(rng.Next())});
    }
  };
  std::thread from_a([&] { talk(*a_, 1); }), from_b([&] { talk(*b_, 2); }), to_a([&] { listen(*a_, 2); });
  listen(*b_, 1);
  from_a.join();
  from_b.join();
  to_a.join();
}

TEST_F(TcpTest, WhatWasReadBeforeADeadlineIsKept) {
  const int raw = Raw();
  const std::string frame("\x05\0\0\0hello\0\0\0\0", 13);  // "hello", then an empty message
  for (size_t i = 0; i < 8; ++i) {
    Write(raw, frame.substr(i, 1));
    EXPECT_EQ(b_->Receive(Deadline::In(milliseconds(10))).status().code(), StatusCode::kDeadlineExceeded) << "byte " << i;
  }
  Write(raw, frame.substr(8));
  const auto message = b_->Receive(Soon());
  ASSERT_TRUE(message.ok()) << message.status().message();
  EXPECT_EQ(*message, Bytes("hello"));
  EXPECT_EQ(b_->Receive(Soon()).value(), Bytes(""));
  close(raw);
}

TEST_F(TcpTest, AMessageAboveTheLimitIsRefusedOnBothSides) {
  Connect();
  const Status sent = a_->Send(std::vector<std::byte>((1 << 20) + 1), Soon());
  EXPECT_EQ(sent.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(sent), AllOf(HasSubstr("1048577"), HasSubstr("1048576")));
  const int raw = Raw();
  Write(raw, "\xFF\xFF\xFF\xFF");
  const auto received = b_->Receive(Soon());
  EXPECT_EQ(received.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(received.status()), HasSubstr("4294967295"));
  close(raw);
}

TEST(TcpFirstMessage, OfAnAcceptedLinkIsLimitedAndTheOthersAreNot) {
  TcpTransport transport({.first_message_bytes_max = 100});
  auto listener = transport.Listen({"127.0.0.1", 0});
  ASSERT_TRUE(listener.ok());
  for (const bool polite : {true, false}) {
    auto a = transport.Connect((*listener)->address(), Soon());
    auto b = (*listener)->Accept(Soon());
    ASSERT_TRUE(a.ok() && b.ok());
    if (polite) {
      ASSERT_TRUE((*a)->Send(std::vector<std::byte>(100), Soon()).ok());
      EXPECT_EQ((*b)->Receive(Soon())->size(), 100U);
    }
    ASSERT_TRUE((*a)->Send(std::vector<std::byte>(101), Soon()).ok());
    const auto received = (*b)->Receive(Soon());
    EXPECT_EQ(received.ok(), polite);
    if (!polite) {
      EXPECT_THAT(Message(received.status()), HasSubstr("101 bytes is announced, the limit is 100"));
      continue;
    }
    // Who connected knows whom it called.
    ASSERT_TRUE((*b)->Send(std::vector<std::byte>(5000), Soon()).ok());
    EXPECT_EQ((*a)->Receive(Soon())->size(), 5000U);
  }
}

TEST_F(TcpTest, APeerThatIsGoneIsUnavailable) {
  Connect();
  ASSERT_TRUE(a_->Send(Bytes("last"), Soon()).ok());
  a_->Close();
  EXPECT_EQ(b_->Receive(Soon()).value(), Bytes("last")) << "what was sent before still arrives";
  EXPECT_EQ(b_->Receive(Soon()).status().code(), StatusCode::kUnavailable);
  const int raw = Raw();
  Write(raw, "\x05");
  const linger hard = {.l_onoff = 1, .l_linger = 0};  // close by reset
  setsockopt(raw, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close(raw);
  EXPECT_EQ(b_->Receive(Soon()).status().code(), StatusCode::kUnavailable);
}

TEST_F(TcpTest, ACloseFromAnotherThreadWakesBothDirections) {
  Connect();
  std::thread receiver([&] { EXPECT_EQ(a_->Receive(Soon()).status().code(), StatusCode::kUnavailable); });
  std::thread sender([&] {
    const std::vector<std::byte> message(1 << 20);
    Status status;
    while (status.ok()) status = a_->Send(message, Soon());  // nobody reads, so it blocks
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  });
  std::this_thread::sleep_for(milliseconds(50));
  a_->Close();
  receiver.join();
  sender.join();
  EXPECT_EQ(a_->Send(Bytes("x"), Soon()).code(), StatusCode::kUnavailable);
}

TEST_F(TcpTest, EveryWaitHasADeadline) {
  EXPECT_EQ(listener_->Accept(Deadline::In(milliseconds(10))).status().code(), StatusCode::kDeadlineExceeded);
  Connect();
  EXPECT_EQ(a_->Receive(Deadline::In(milliseconds(10))).status().code(), StatusCode::kDeadlineExceeded);
  const std::vector<std::byte> message(1 << 20);
  Status status;
  for (int i = 0; status.ok() && i < 100; ++i) status = a_->Send(message, Deadline::In(milliseconds(20)));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
}

TEST_F(TcpTest, ATakenPortIsNamedWithAHint) {
  const auto second = transport_.Listen(listener_->address());
  EXPECT_EQ(second.status().code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(Message(second.status()), AllOf(HasSubstr(Cat("127.0.0.1:", listener_->address().port)), HasSubstr("Hint")));
}

TEST_F(TcpTest, ThePortCanBeTakenAgainAtOnce) {
  Connect();
  const Address address = listener_->address();
  listener_.reset();
  b_->Close();
  b_.reset();  // the side that closed first lingers in TIME_WAIT
  EXPECT_TRUE(transport_.Listen(address).ok());
}

TEST_F(TcpTest, AddressesThatLeadNowhereAreClear) {
  const Address address = listener_->address();
  listener_.reset();
  EXPECT_EQ(transport_.Connect(address, Soon()).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(transport_.Listen({"203.0.113.7", 0}).status().code(), StatusCode::kInvalidArgument);
  const auto unknown = transport_.Connect({"no.such.host.invalid", 1}, Soon());
  EXPECT_EQ(unknown.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(unknown.status()), HasSubstr("no.such.host.invalid"));
}

TEST_F(TcpTest, NamesWorkToo) {
  auto listener = transport_.Listen({"localhost", 0});
  ASSERT_TRUE(listener.ok()) << listener.status().message();
  EXPECT_GT((*listener)->address().port, 0);
  EXPECT_TRUE(transport_.Connect((*listener)->address(), Soon()).ok());
}

}  // namespace
}  // namespace dtrain
