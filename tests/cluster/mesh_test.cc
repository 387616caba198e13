// Goal: in the end every rank has the right link to every other, or every rank has the same error that names who did not
// come; whatever strangers do meanwhile. Method: the rules by hand; ranks as threads over TCP with scanners at every port;
// ranks as threads over links in memory that delay and break, by seed.
#include "cluster/mesh.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/rng.h"
#include "cluster/file_descriptor.h"
#include "cluster/handshake.h"
#include "cluster/job_environment.h"
#include "cluster/mesh_rules.h"
#include "cluster/tcp_transport.h"
#include "tests/sim/sim_transport.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

#ifdef DTRAIN_SANITIZED
constexpr int kSlower = 6;
#else
constexpr int kSlower = 1;
#endif

// --- The rules.

MeshHello From(int from, int lane = 0, int64_t attempt = 1) {
  return {.from = from, .to = 2, .world_size = 4, .view = 7, .lane = lane, .attempt = attempt};
}

TEST(MeshRules, OnlyTheRightLinksAreAdmitted) {
  MeshRules rules(2, 4, 7, 2);
  const auto why = [&](MeshHello hello) { return Message(rules.Admit(hello)); };
  MeshHello wrong = From(1);
  wrong.world_size = 5;
  EXPECT_THAT(why(wrong), HasSubstr("rank 1 believes that the job has 5 ranks, rank 2 has 4"));
  wrong = From(1);
  wrong.view = 6;
  EXPECT_THAT(why(wrong), HasSubstr("rank 1 is in view 6, rank 2 in view 7"));
  wrong = From(1);
  wrong.to = 3;
  EXPECT_THAT(why(wrong), HasSubstr("this is rank 2, rank 1 looks for rank 3"));
  EXPECT_THAT(why(From(2)), HasSubstr("expected the lower to the higher"));
  EXPECT_THAT(why(From(3)), HasSubstr("expected the lower to the higher"));
  EXPECT_THAT(why(From(1, 2)), HasSubstr("brings link number 2, rank 2 expects 2"));
  EXPECT_EQ(why(From(1)), "");
  EXPECT_EQ(why(From(1, 1)), "");
}

TEST(MeshRules, TheNewestAttemptHoldsInWhateverOrderTheyEnd) {
  MeshRules rules(1, 2, 7, 1);
  const auto hello = [](int64_t attempt) { return MeshHello{.from = 0, .to = 1, .world_size = 2, .view = 7, .attempt = attempt}; };
  ASSERT_TRUE(rules.Admit(hello(1)).ok());
  ASSERT_TRUE(rules.Admit(hello(3)).ok());
  EXPECT_EQ(rules.Admit(hello(2)).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(rules.Admit(hello(3)).code(), StatusCode::kAlreadyExists);
  EXPECT_FALSE(rules.Place(hello(1))) << "its peer gave it up before it made the third";
  EXPECT_FALSE(rules.complete());
  EXPECT_TRUE(rules.Place(hello(3)));
  EXPECT_TRUE(rules.complete());
  ASSERT_TRUE(rules.Admit(hello(4)).ok());
  EXPECT_TRUE(rules.Place(hello(4)));
  EXPECT_TRUE(rules.complete());
}

TEST(MeshRules, CompleteMeansEveryLaneOfEveryPeer) {
  MeshRules rules(2, 4, 7, 2);
  for (int lane : {0, 1}) {
    for (int from : {0, 1}) {
      ASSERT_TRUE(rules.Admit(From(from, lane)).ok());
      ASSERT_TRUE(rules.Place(From(from, lane)));
    }
    EXPECT_FALSE(rules.complete());
    EXPECT_NE(rules.Report(), "");
    rules.Connected(3, lane);
  }
  EXPECT_TRUE(rules.complete());
  EXPECT_EQ(rules.Report(), "");
}

std::vector<std::string> Reports(int world_size, const std::vector<std::pair<int, int>>& missing) {
  std::vector<std::string> reports;
  for (int rank = 0; rank < world_size; ++rank) {
    MeshRules rules(rank, world_size, 0, 1);
    for (int peer = 0; peer < world_size; ++peer) {
      const bool lost = std::find(missing.begin(), missing.end(), std::pair(rank, peer)) != missing.end();
      if (peer == rank) continue;
      if (lost) {
        rules.Note(peer, Cat("silence of ", peer));
      } else if (peer > rank) {
        rules.Connected(peer, 0);
      } else {
        const MeshHello hello{.from = peer, .to = rank, .world_size = world_size, .view = 0};
        EXPECT_TRUE(rules.Admit(hello).ok() && rules.Place(hello));
      }
    }
    reports.push_back(rules.Report());
  }
  return reports;
}

TEST(MeshRules, TheVerdictNamesTheOneThatIsLackedByMost) {
  EXPECT_TRUE(MeshVerdict(Reports(4, {})).ok());
  const Status one = MeshVerdict(Reports(4, {{0, 2}, {1, 2}, {3, 2}, {2, 0}, {2, 1}, {2, 3}}));
  EXPECT_EQ(one.code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(one), AllOf(HasSubstr("connect the ranks: rank 2 and ranks 0, 1, 3 did not reach each other (silence of 2)\n  Hint"),
                                  HasSubstr("strategy.interface")));
  // What only one end noticed counts as well; two faults are both told.
  EXPECT_THAT(Message(MeshVerdict(Reports(4, {{1, 0}, {2, 3}}))),
              AllOf(HasSubstr("rank 0 and rank 1 did not"), HasSubstr("rank 3 and rank 2 did not")));
}

TEST(MeshRules, ADamagedReportIsNotBelieved) {
  std::vector<std::string> reports = Reports(3, {{0, 2}});
  for (const std::string& bad : {std::string("x"), reports[0].substr(0, 9), reports[0] + "x", std::string(8, '\xff') + std::string(4, '\0'),
                                 std::string(12, '\0')}) {
    const Status verdict = MeshVerdict(std::vector{bad, std::string(), std::string()});
    EXPECT_EQ(verdict.code(), StatusCode::kDataLoss) << verdict;
    EXPECT_THAT(Message(verdict), HasSubstr("the report of rank 0 is damaged"));
  }
}

TEST(MeshRules, AReportOfVeryManyRanksStillFitsAMessage) {
  MeshRules rules(0, kRanksMax, 0, 1);
  for (int peer = 1; peer < kRanksMax; ++peer) rules.Note(peer, std::string(4000, 'x'));
  EXPECT_LE(rules.Report().size(), kGatherPartBytesMax);
  std::vector<std::string> reports(kRanksMax);
  reports[0] = rules.Report();
  EXPECT_EQ(MeshVerdict(reports).code(), StatusCode::kUnavailable);
}

// --- With links.

// Member::AllGather for ranks that are threads. Patient beyond the deadline: a busy machine must not fail a test.
class LocalGather {
 public:
  explicit LocalGather(int ranks) : parts_(static_cast<size_t>(ranks)) {}
  StatusOr<std::vector<std::string>> operator()(int rank, std::string_view mine) {
    std::unique_lock lock(mutex_);
    const int64_t round = round_;
    parts_[static_cast<size_t>(rank)] = mine;
    if (++arrived_ == parts_.size()) {
      arrived_ = 0;
      ++round_;
      gathered_ = parts_;
      changed_.notify_all();
    } else if (!changed_.wait_for(lock, seconds(60), [&] { return round_ != round; })) {
      return DeadlineExceeded("not all sent their part");
    }
    return gathered_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> parts_, gathered_;
  size_t arrived_ = 0;
  int64_t round_ = 0;
};

struct Setting {
  int ranks = 3;
  int lanes = 1;
  Duration limit = seconds(20) * kSlower;
  Duration hello_limit = seconds(5);
  int strangers_max = 32;
  std::function<void(int rank, MeshOptions&)> change;                             // before ConnectMesh
  std::function<std::string(int rank, int round, const std::string& mine)> tell;  // what the rank says instead of the truth
  std::function<void(const std::vector<std::string>& addresses)> on_addresses;    // rank 0 learnt them
};

std::vector<StatusOr<Mesh>> ConnectAll(Transport& transport, const Setting& setting) {
  LocalGather gather(setting.ranks);
  std::vector<StatusOr<Mesh>> meshes(static_cast<size_t>(setting.ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < setting.ranks; ++rank) {
    threads.emplace_back([&, rank] {
      int round = 0;
      MeshOptions options{.rank = rank,
                          .world_size = setting.ranks,
                          .view = 3,
                          .token = "secret",
                          .lanes = setting.lanes,
                          .all_gather =
                              [&](std::string_view, std::string_view mine, Deadline) {
                                const std::string said(mine);
                                auto all = gather(rank, setting.tell ? setting.tell(rank, round, said) : said);
                                if (round++ == 0 && rank == 0 && all.ok() && setting.on_addresses) setting.on_addresses(*all);
                                return all;
                              },
                          .hello_limit = setting.hello_limit,
                          .strangers_max = setting.strangers_max};
      if (setting.change) setting.change(rank, options);
      meshes[static_cast<size_t>(rank)] = ConnectMesh(transport, options, Deadline::In(setting.limit));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return meshes;
}

std::vector<std::byte> Bytes(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// Every link leads where it should, both ways. Links may break under way where `may_break`.
void ExpectRightLinks(std::vector<StatusOr<Mesh>>& meshes, int lanes, bool may_break = false) {
  const auto ranks = static_cast<int>(meshes.size());
  const Deadline deadline = Deadline::In(seconds(10));
  const auto each = [&](const std::function<void(Link&, int rank, int peer, int lane)>& visit) {
    for (int rank = 0; rank < ranks; ++rank) {
      Mesh& mesh = *meshes[static_cast<size_t>(rank)];
      ASSERT_EQ(mesh.size(), static_cast<size_t>(lanes));
      for (int lane = 0; lane < lanes; ++lane) {
        auto& links = mesh[static_cast<size_t>(lane)];
        ASSERT_EQ(links.size(), static_cast<size_t>(ranks));
        for (int peer = 0; peer < ranks; ++peer) {
          ASSERT_EQ(links[static_cast<size_t>(peer)] == nullptr, peer == rank);
          if (peer != rank) visit(*links[static_cast<size_t>(peer)], rank, peer, lane);
        }
      }
    }
  };
  for (const auto& mesh : meshes) ASSERT_TRUE(mesh.ok()) << mesh.status();
  each([&](Link& link, int rank, int peer, int lane) {
    const Status sent = link.Send(Bytes(Cat(rank, ">", peer, "/", lane)), deadline);
    EXPECT_TRUE(sent.ok() || (may_break && sent.code() == StatusCode::kUnavailable)) << sent;
  });
  each([&](Link& link, int rank, int peer, int lane) {
    const auto got = link.Receive(deadline);
    if (may_break && got.status().code() == StatusCode::kUnavailable) return;
    ASSERT_TRUE(got.ok()) << "rank " << rank << " from " << peer << " lane " << lane << ": " << got.status();
    EXPECT_EQ(*got, Bytes(Cat(peer, ">", rank, "/", lane)));
  });
}

TEST(Mesh, EveryRankHasALinkToEveryOther) {
  TcpTransport transport;
  for (const auto& [ranks, lanes] : {std::pair(1, 1), {2, 1}, {3, 2}, {6, 3}}) {
    auto meshes = ConnectAll(transport, {.ranks = ranks, .lanes = lanes});
    ExpectRightLinks(meshes, lanes);
  }
}

TEST(Mesh, SlowAndBreakingLinksOnlyDelayIt) {
  for (uint64_t seed = 0; seed < 14; ++seed) {
    SCOPED_TRACE(seed);
    SimTransport transport({.seed = seed, .delay_max = milliseconds(seed % 3), .cut_chance = 0.05 * static_cast<double>(seed % 7)});
    auto meshes = ConnectAll(transport, {.ranks = 3, .lanes = 2});
    ExpectRightLinks(meshes, 2, true);
    if (testing::Test::HasFailure()) break;
  }
}

FileDescriptor ConnectRaw(const Address& address) {
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(address.port);
  inet_pton(AF_INET, address.host.c_str(), &to.sin_addr);
  if (connect(fd.fd(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) fd.Reset();
  return fd;
}

// Strangers at every port from before the first rank connects until the mesh is there: who opens and closes, who says
// nothing, who sends noise, who announces a huge message.
class Scanners {
 public:
  ~Scanners() { Stop(); }
  void Start(const std::vector<std::string>& addresses) {
    for (size_t i = 0; i < addresses.size(); ++i) {
      threads_.emplace_back([this, i, address = *ParseAddress(addresses[i])] {
        Rng rng(1, RngPurpose::kSynthetic, i);
        std::vector<FileDescriptor> silent;
        while (!stop_) {
          FileDescriptor fd = ConnectRaw(address);
          if (!fd.open()) break;
          ++count_;
          std::array<uint8_t, 64> noise;
          for (uint8_t& byte : noise) byte = static_cast<uint8_t>(rng.Next());
          noise[3] = rng.Below(2) == 0 ? 0 : 255;
          switch (rng.Below(3)) {
            case 0:
              (void)!send(fd.fd(), noise.data(), 1 + rng.Below(noise.size()), MSG_NOSIGNAL);
              break;
            case 1:
              silent.push_back(std::move(fd));
              break;
            default:
              break;
          }
          if (silent.size() > 100) silent.erase(silent.begin());
          std::this_thread::sleep_for(std::chrono::microseconds(300));
        }
      });
    }
    // The first crowd is there before any rank is.
    while (count_ < 60) std::this_thread::sleep_for(milliseconds(1));
  }
  int Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return count_;
  }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<int> count_ = 0;
  std::vector<std::thread> threads_;
};

TEST(Mesh, ScannersDoNotKeepTheRanksApart) {
  TcpTransport transport({.first_message_bytes_max = 4096});
  Scanners scanners;
  auto meshes = ConnectAll(
      transport,
      {.ranks = 4, .lanes = 2, .hello_limit = seconds(2) * kSlower, .strangers_max = 8, .on_addresses = [&](const auto& addresses) {
         scanners.Start(addresses);
       }});
  EXPECT_GE(scanners.Stop(), 60);
  ExpectRightLinks(meshes, 2);
}

// Reads until the other side ends the connection.
bool IsCut(const FileDescriptor& fd, Duration limit) {
  std::array<char, 4096> buffer;
  for (const Deadline deadline = Deadline::In(limit); !deadline.Passed();) {
    pollfd polled = {.fd = fd.fd(), .events = POLLIN};
    if (poll(&polled, 1, 20) > 0 && read(fd.fd(), buffer.data(), buffer.size()) <= 0) return true;
  }
  return false;
}

// One rank waits for a lower one that does not come; meanwhile `visit` plays with its port. Returns how it ended.
Status AloneWith(Transport& transport, Duration hello_limit, const std::function<void(const Address&)>& visit) {
  std::thread visitor;
  const MeshOptions options{.rank = 1,
                            .world_size = 2,
                            .view = 3,
                            .token = "secret",
                            .all_gather =
                                [&, round = 0](std::string_view, std::string_view mine, Deadline) mutable {
                                  const std::string said(mine);
                                  if (round++ > 0) return StatusOr<std::vector<std::string>>({std::string(), said});
                                  visitor = std::thread([&, address = *ParseAddress(said)] { visit(address); });
                                  return StatusOr<std::vector<std::string>>({"127.0.0.1:1", said});
                                },
                            .health =
                                [&] {
                                  if (visitor.joinable()) visitor.join();
                                  return OkStatus();
                                },
                            .hello_limit = hello_limit,
                            .strangers_max = 4};
  return ConnectMesh(transport, options, Deadline::In(milliseconds(300))).status();
}

TEST(Mesh, AStrangerIsCutAfterTheHelloLimit) {
  TcpTransport transport;
  const Status alone = AloneWith(transport, milliseconds(150), [&](const Address& address) {
    const FileDescriptor silent = ConnectRaw(address);
    EXPECT_TRUE(IsCut(silent, seconds(10)));
  });
  EXPECT_THAT(Message(alone), HasSubstr("rank 0 and rank 1 did not reach each other (it never connected)"));
}

TEST(Mesh, OfACrowdTheOldestIsCut) {
  TcpTransport transport;
  (void)AloneWith(transport, seconds(30), [&](const Address& address) {
    std::vector<FileDescriptor> crowd;
    for (int i = 0; i < 6; ++i) crowd.push_back(ConnectRaw(address));
    EXPECT_TRUE(IsCut(crowd[0], seconds(10)));
    EXPECT_TRUE(IsCut(crowd[1], seconds(10)));
    for (int i = 2; i < 6; ++i) EXPECT_FALSE(IsCut(crowd[static_cast<size_t>(i)], milliseconds(1))) << i;
  });
}

TEST(Mesh, WithoutTheTokenOrInAnotherViewNobodyGetsIn) {
  TcpTransport transport;
  const Status alone = AloneWith(transport, seconds(10), [&](const Address& address) {
    const auto refusal = [&](std::string_view token, const MeshHello& hello) {
      auto link = transport.Connect(address, Deadline::In(seconds(5)));
      EXPECT_TRUE(link.ok());
      return link.ok() ? Message(IntroduceRank(**link, token, hello, Deadline::In(seconds(5)))) : "";
    };
    const MeshHello right{.from = 0, .to = 1, .world_size = 2, .view = 3};
    EXPECT_THAT(refusal("guessed", right), HasSubstr("the token is not this job's"));
    EXPECT_THAT(refusal("", right), HasSubstr("the token is not this job's"));
    MeshHello wrong = right;
    wrong.view = 2;
    EXPECT_THAT(refusal("secret", wrong), HasSubstr("rank 0 is in view 2, rank 1 in view 3"));
    // A hello that was signed for another challenge; then something that is no hello.
    auto link = *transport.Connect(address, Deadline::In(seconds(5)));
    ASSERT_TRUE(ReceiveMessage(*link, Deadline::In(seconds(5))).ok());
    ASSERT_TRUE(SendMessage(*link, SignMeshHello("secret", Nonce{}, right), Deadline::In(seconds(5))).ok());
    const auto answer = ReceiveMessage(*link, Deadline::In(seconds(5)));
    EXPECT_TRUE(answer.ok() && std::holds_alternative<Refused>(*answer));
    link = *transport.Connect(address, Deadline::In(seconds(5)));
    ASSERT_TRUE(ReceiveMessage(*link, Deadline::In(seconds(5))).ok());
    ASSERT_TRUE(SendMessage(*link, SignHello("secret", Nonce{}, {}), Deadline::In(seconds(5))).ok());
    EXPECT_EQ(link->Receive(Deadline::In(seconds(5))).status().code(), StatusCode::kUnavailable);
  });
  EXPECT_EQ(alone.code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(alone), HasSubstr("rank 0 is in view 2"));
}

TEST(Mesh, WhoIsNotReachedIsNamedOnEveryRankWithinTheDeadline) {
  TcpTransport transport;
  // A port that takes connections and says nothing, another that nobody listens on.
  auto mute = *transport.Listen({"127.0.0.1", 0});
  for (const std::string& address : {ToText(mute->address()), std::string("127.0.0.1:1")}) {
    const TimePoint start = SystemClock().Now();
    const auto meshes =
        ConnectAll(transport, {.ranks = 4, .limit = milliseconds(400) * kSlower, .tell = [&](int rank, int round, const std::string& mine) {
                                 return rank == 3 && round == 0 ? address : mine;
                               }});
    EXPECT_LT(SystemClock().Now() - start, seconds(5) * kSlower);
    for (const auto& mesh : meshes) {
      EXPECT_EQ(mesh.status(), meshes[0].status());
      EXPECT_THAT(Message(mesh.status()), HasSubstr(address));
      EXPECT_THAT(Message(mesh.status()), HasSubstr("connect the ranks: rank 3 and ranks 0, 1, 2 did not reach each other ("));
    }
  }
}

TEST(Mesh, ARankWithAnotherTokenOrViewEndsItForAllWithTheReason) {
  TcpTransport transport;
  const auto with = [&](const std::function<void(MeshOptions&)>& change) {
    const auto meshes = ConnectAll(transport, {.limit = milliseconds(400) * kSlower, .change = [&](int rank, MeshOptions& options) {
                                                 if (rank == 1) change(options);
                                               }});
    for (const auto& mesh : meshes) EXPECT_EQ(mesh.status(), meshes[0].status());
    return Message(meshes[0].status());
  };
  EXPECT_THAT(with([](MeshOptions& options) { options.token = "other"; }),
              AllOf(HasSubstr("rank 1 and ranks 0, 2 did not reach each other"), HasSubstr("the token is not this job's")));
  EXPECT_THAT(with([](MeshOptions& options) { options.view = 2; }), HasSubstr("rank 1 in view 2"));
}

TEST(Mesh, AFailedJobEndsTheWait) {
  TcpTransport transport;
  auto mute = *transport.Listen({"127.0.0.1", 0});
  const TimePoint start = SystemClock().Now();
  const auto meshes = ConnectAll(
      transport,
      {.ranks = 2,
       .limit = seconds(60),
       .hello_limit = seconds(30),
       .change = [&](int, MeshOptions& options) { options.health = [] { return Unavailable("rank 9 died"); }; },
       .tell = [&](int rank, int round, const std::string& mine) { return rank == 1 && round == 0 ? ToText(mute->address()) : mine; }});
  for (const auto& mesh : meshes) EXPECT_THAT(Message(mesh.status()), HasSubstr("rank 9 died"));
  EXPECT_LT(SystemClock().Now() - start, seconds(10) * kSlower);
}

TEST(Mesh, AddressesOfPeersAreChecked) {
  TcpTransport transport;
  const auto meshes = ConnectAll(transport, {.ranks = 2, .tell = [](int rank, int round, const std::string& mine) {
                                               return rank == 1 && round == 0 ? std::string("nonsense") : mine;
                                             }});
  for (const auto& mesh : meshes) EXPECT_THAT(Message(mesh.status()), HasSubstr("the address of rank 1: \"nonsense\" is no address"));
}

TEST(Mesh, NonsenseOptionsAreRefused) {
  TcpTransport transport;
  for (const MeshOptions& options : {MeshOptions{.rank = 2, .world_size = 2, .token = "x"}, MeshOptions{.token = ""},
                                     MeshOptions{.token = "x", .lanes = 0}, MeshOptions{.token = "x", .lanes = 65}}) {
    EXPECT_EQ(ConnectMesh(transport, options, Deadline::In(seconds(1))).status().code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace dtrain
