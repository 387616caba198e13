// Goal: who is not of the job does not disturb it, whatever it sends or does not send. Method: a coordinator on a real
// port, raw sockets as strangers, and a member that joins and gathers all the while.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "base/rng.h"
#include "cluster/coordinator_server.h"
#include "cluster/file_descriptor.h"
#include "cluster/handshake.h"
#include "cluster/member.h"
#include "cluster/tcp_transport.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

Deadline Soon() { return Deadline::In(seconds(20)); }

class StrangersTest : public testing::Test {
 protected:
  void SetUp() override {
    auto listener = listen_.Listen({"127.0.0.1", 0});
    ASSERT_TRUE(listener.ok());
    CoordinatorServerOptions options = {.job = {.ranks = 1, .deadline = seconds(5)},
                                        .token = "secret",
                                        .hello_limit = milliseconds(300),
                                        .strangers_max = 4,
                                        .clients_max = 2,
                                        .on_query = [](const std::string& query) {
                                          return Answer{true, "you said " + query};
                                        }};
    server_ = std::make_unique<CoordinatorServer>(*std::move(listener), std::move(options));
    turns_ = std::thread([this] {
      while (!end_) server_->Turn(Deadline::In(milliseconds(10)));
    });
    auto member = Member::Join(connect_, {.coordinator = server_->address(), .token = "secret"}, SystemClock(), Soon());
    ASSERT_TRUE(member.ok()) << member.status().message();
    member_ = *std::move(member);
  }
  void TearDown() override {
    // The job went on, and it ends as it should.
    if (member_ != nullptr) {
      ExpectUndisturbed();
      EXPECT_TRUE(member_->Leave(OkStatus(), Soon()).ok());
    }
    end_ = true;
    if (turns_.joinable()) turns_.join();
    EXPECT_TRUE(server_->machine().over() && server_->machine().outcome()->status.ok());
  }
  void ExpectUndisturbed() {
    const auto all = member_->AllGather("still here", "x", Soon());
    EXPECT_TRUE(all.ok()) << all.status().message();
  }
  FileDescriptor Stranger() {
    FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(server_->address().port);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    EXPECT_EQ(connect(fd.fd(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return fd;
  }
  // Reads until the server ends the connection; false if it does not in time.
  static bool IsCut(const FileDescriptor& fd, Duration limit) {
    std::array<char, 4096> buffer;
    for (const Deadline deadline = Deadline::In(limit); !deadline.Passed();) {
      pollfd polled = {.fd = fd.fd(), .events = POLLIN};
      if (poll(&polled, 1, 20) > 0 && read(fd.fd(), buffer.data(), buffer.size()) <= 0) return true;
    }
    return false;
  }
  std::unique_ptr<Link> Greeted(Nonce* challenge) {
    auto link = connect_.Connect(server_->address(), Soon());
    EXPECT_TRUE(link.ok());
    auto first = ReceiveMessage(**link, Soon());
    EXPECT_TRUE(first.ok());
    *challenge = std::get<Challenge>(*first).nonce;
    return *std::move(link);
  }

  TcpTransport listen_{{.message_bytes_max = 256 << 10}}, connect_;
  std::unique_ptr<CoordinatorServer> server_;
  std::atomic<bool> end_ = false;
  std::thread turns_;
  std::unique_ptr<Member> member_;
};

TEST_F(StrangersTest, WhoSaysNothingIsCut) {
  const FileDescriptor silent = Stranger();
  ExpectUndisturbed();
  EXPECT_TRUE(IsCut(silent, seconds(5)));
}

TEST_F(StrangersTest, WhoSpeaksSlowlyIsCutToo) {
  const FileDescriptor slow = Stranger();
  const TimePoint start = SystemClock().Now();
  bool cut = false;
  for (int i = 0; i < 200 && !cut; ++i) {  // a byte at a time keeps no connection alive
    const char byte = i == 0 ? 100 : 0;
    cut = send(slow.fd(), &byte, 1, MSG_NOSIGNAL) != 1 || IsCut(slow, milliseconds(25));
  }
  EXPECT_TRUE(cut);
  EXPECT_LT(SystemClock().Now() - start, seconds(4));
}

TEST_F(StrangersTest, GarbageIsCutAtOnce) {
  Rng rng(1, RngPurpose::kSynthetic);
  for (int i = 0; i < 40; ++i) {
    const FileDescriptor noisy = Stranger();
    std::vector<uint8_t> noise(1 + rng.Below(3000));
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(rng.Next());
    noise[std::min<size_t>(3, noise.size() - 1)] = i % 2 == 0 ? 0 : 255;
    (void)!send(noisy.fd(), noise.data(), noise.size(), MSG_NOSIGNAL);
    if (i % 8 == 0) ExpectUndisturbed();
  }
  const FileDescriptor web = Stranger();
  const std::string request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  (void)!send(web.fd(), request.data(), request.size(), MSG_NOSIGNAL);
  EXPECT_TRUE(IsCut(web, seconds(5)));
}

TEST_F(StrangersTest, AScanThatOpensAndClosesIsHarmless) {
  for (int i = 0; i < 200; ++i) Stranger();
}

TEST_F(StrangersTest, ACrowdDoesNotKeepTheRightOnesOut) {
  std::vector<FileDescriptor> crowd;
  for (int i = 0; i < 30; ++i) crowd.push_back(Stranger());
  auto link = connect_.Connect(server_->address(), Soon());
  ASSERT_TRUE(link.ok());
  const auto welcome = Introduce(**link, "secret", {.role = PeerRole::kClient}, Soon());
  EXPECT_TRUE(welcome.ok()) << welcome.status().message();
  EXPECT_TRUE(IsCut(crowd.front(), seconds(5)));
}

TEST_F(StrangersTest, AWrongOrAbsentTokenIsRefusedAndCut) {
  for (const char* token : {"", "guessed", "secretx"}) {
    auto link = connect_.Connect(server_->address(), Soon());
    ASSERT_TRUE(link.ok());
    const auto welcome = Introduce(**link, token, {.role = PeerRole::kRank, .pid = 1}, Soon());
    EXPECT_EQ(welcome.status().code(), StatusCode::kPermissionDenied);
    EXPECT_THAT(Message(welcome.status()), HasSubstr("the token is not this job's"));
    EXPECT_EQ((*link)->Receive(Soon()).status().code(), StatusCode::kUnavailable);
  }
}

TEST_F(StrangersTest, AHelloOfAnotherConnectionIsWorthNothing) {
  Nonce first, second;
  const auto link1 = Greeted(&first);
  const auto link2 = Greeted(&second);
  const Hello hello = SignHello("secret", first, {.role = PeerRole::kClient});
  ASSERT_TRUE(SendMessage(*link2, hello, Soon()).ok());
  const auto answer = ReceiveMessage(*link2, Soon());
  ASSERT_TRUE(answer.ok());
  EXPECT_TRUE(std::holds_alternative<Refused>(*answer)) << NameOf(*answer);
}

TEST_F(StrangersTest, AnythingButAHelloFirstIsCut) {
  for (const ControlMessage& message : {ControlMessage(Leave{}), ControlMessage(Query{"stop"}), ControlMessage(Failed{"x", 5})}) {
    Nonce challenge;
    const auto link = Greeted(&challenge);
    ASSERT_TRUE(SendMessage(*link, message, Soon()).ok());
    EXPECT_EQ(link->Receive(Soon()).status().code(), StatusCode::kUnavailable);
  }
}

TEST_F(StrangersTest, ACoordinatorThatDoesNotKnowTheTokenIsNotBelieved) {
  auto listener = listen_.Listen({"127.0.0.1", 0});
  ASSERT_TRUE(listener.ok());
  std::thread impostor([&] {
    auto link = (*listener)->Accept(Soon());
    ASSERT_TRUE(link.ok());
    ASSERT_TRUE(SendMessage(**link, Challenge{}, Soon()).ok());
    ASSERT_TRUE(ReceiveMessage(**link, Soon()).ok());
    ASSERT_TRUE(SendMessage(**link, Welcome{"do my work", seconds(5), {}}, Soon()).ok());
    (void)(*link)->Receive(Soon());
  });
  auto member = Member::Join(connect_, {.coordinator = (*listener)->address(), .token = "secret"}, SystemClock(), Soon());
  EXPECT_EQ(member.status().code(), StatusCode::kPermissionDenied);
  EXPECT_THAT(Message(member.status()), HasSubstr("does not know the job's token"));
  impostor.join();
}

TEST_F(StrangersTest, ClientsHaveALimitAndAskAsOftenAsTheyLike) {
  std::vector<std::unique_ptr<Link>> clients;
  for (int i = 0; i < 2; ++i) {
    auto link = connect_.Connect(server_->address(), Soon());
    ASSERT_TRUE(link.ok());
    ASSERT_TRUE(Introduce(**link, "secret", {.role = PeerRole::kClient}, Soon()).ok());
    clients.push_back(*std::move(link));
  }
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(SendMessage(*clients[0], Query{Cat("hello ", i)}, Soon()).ok());
    const auto answer = ReceiveMessage(*clients[0], Soon());
    ASSERT_TRUE(answer.ok());
    EXPECT_EQ(std::get<Answer>(*answer).text, Cat("you said hello ", i));
  }
  auto third = connect_.Connect(server_->address(), Soon());
  ASSERT_TRUE(third.ok());
  EXPECT_THAT(Message(Introduce(**third, "secret", {.role = PeerRole::kClient}, Soon()).status()), HasSubstr("2 clients are connected"));
}

}  // namespace
}  // namespace dtrain
