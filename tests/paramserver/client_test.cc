// Goal: the worker's side by itself: what it asks for, how often, in which window, and when it gives up. Method: a client is
// answered by hand in virtual time. What it does together with real shards is in simulation_test.cc.
#include "paramserver/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/paramserver/small_job.h"

namespace dtrain::ps {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr TimePoint kStart = TimePoint(std::chrono::hours(1));

class OneClient {
 public:
  explicit OneClient(ClientOptions options = {}, int tensors = 4, int servers = 2)
      : table_(SmallTable(tensors, servers)), client_(WithJob(options), table_, InitialParameters(table_.layout())) {
    client_.SetView(1, 10, now_);
    gradient_ = std::make_shared<const std::vector<float>>(client_.parameters().size(), 1.0F);
  }
  static ClientOptions WithJob(ClientOptions options) {
    options.job = 5;
    return options;
  }
  void Answer(int server, Body body, std::span<const float> elements = {}, int64_t view = 1) {
    client_.Receive(server, {{5, view, kNoWorker, 1, 1}, std::move(body), elements}, now_);
  }
  template <typename T>
  std::vector<T> Sent(std::vector<int>* servers = nullptr) {
    std::vector<T> bodies;
    for (const ClientSend& send : client_.TakeSends()) {
      if (const T* body = std::get_if<T>(&send.message.body)) {
        bodies.push_back(*body);
        if (servers != nullptr) servers->push_back(send.server);
      }
    }
    return bodies;
  }
  template <typename T>
  std::optional<T> Event() {
    for (const ClientEvent& event : client_.TakeEvents()) {
      if (const T* it = std::get_if<T>(&event)) return *it;
    }
    return std::nullopt;
  }
  void GiveParameters(int64_t version) {
    const std::vector<float> values(16, static_cast<float>(version));
    for (const Chunk& chunk : client_.sharding().chunks) Answer(chunk.server, Parameters{version, chunk.range.begin}, values);
  }

  Table table_;
  TimePoint now_ = kStart;
  Client client_;
  Gradient gradient_;
};

TEST(Client, JoinsWhenEveryServerIsReadyAndWorkerZeroGivesTheValues) {
  OneClient it;
  it.client_.Join(it.now_);
  EXPECT_EQ(it.Sent<Register>().size(), 2u);
  it.Answer(0, Registered{false, -1});
  it.Answer(1, Registered{true, 0});
  std::vector<int> servers;
  EXPECT_EQ(it.Sent<Initial>(&servers).size(), 2u);
  EXPECT_EQ(servers, (std::vector<int>{0, 0}));
  EXPECT_FALSE(it.Event<Joined>());
  it.Answer(0, Registered{true, 0});
  EXPECT_TRUE(it.Event<Joined>());
}

TEST(Client, EachChunkGoesToItsServerOnceAndIsRepeatedWithGrowingPauses) {
  OneClient it({.retry_min = milliseconds(10), .retry_max = milliseconds(40), .silence_max = seconds(10)});
  it.client_.Push({0, 0, {0, 0}}, it.gradient_, 1, it.now_);
  std::vector<int> servers;
  EXPECT_EQ(it.Sent<Push>(&servers).size(), 4u);
  EXPECT_EQ(servers, (std::vector<int>{0, 0, 1, 1}));
  for (int c = 0; c < 3; ++c)
    it.Answer(c / 2, PushAnswer{{0, 0, {0, 0}}, it.client_.sharding().chunks[c].range.begin, PushOutcome::kTaken, 0});
  std::vector<int64_t> at;
  for (int ms = 1; ms <= 200; ++ms) {
    it.now_ += milliseconds(1);
    it.client_.Tick(it.now_);
    for (const Push& push : it.Sent<Push>()) {
      EXPECT_EQ(push.offset, it.client_.sharding().chunks[3].range.begin) << "only what was not answered";
      at.push_back(ms);
    }
  }
  EXPECT_EQ(at, (std::vector<int64_t>{10, 30, 70, 110, 150, 190}));
}

TEST(Client, KeepsToItsWindowAndSendsOnWithEachAnswer) {
  OneClient it({.window_bytes = 2 * 64}, 6, 1);
  it.client_.Push({0, 0, {0, 0}}, it.gradient_, 1, it.now_);
  EXPECT_EQ(it.Sent<Push>().size(), 2u);
  EXPECT_EQ(it.client_.bytes_under_way(0), 128);
  it.Answer(0, PushAnswer{{0, 0, {0, 0}}, 16, PushOutcome::kTaken, 0});
  EXPECT_EQ(it.Sent<Push>().at(0).offset, 32);
  // What was lost is sent again although the window is full of it.
  it.now_ += seconds(1);
  it.client_.Tick(it.now_);
  EXPECT_EQ(it.Sent<Push>().size(), 2u);
  EXPECT_EQ(it.client_.bytes_under_way(0), 128);
  it.Answer(0, PushAnswer{{0, 0, {0, 0}}, 0, PushOutcome::kLater, 0});
  EXPECT_EQ(it.Sent<Push>().at(0).offset, 48) << "what waits for its turn leaves its place to others";
  it.Answer(0, PushAnswer{{0, 0, {0, 0}}, 32, PushOutcome::kTaken, 0});
  it.Sent<Push>();
  it.Answer(0, PushAnswer{{0, 0, {0, 0}}, 0, PushOutcome::kNow, 0});
  it.Answer(0, PushAnswer{{0, 0, {0, 0}}, 48, PushOutcome::kTaken, 0});
  EXPECT_EQ(it.Sent<Push>().at(0).offset, 0) << "and is sent when it is called";
}

TEST(Client, GivesUpOnAServerThatSaysNothingAndNotOnOneThatIsSlow) {
  OneClient it({.retry_max = milliseconds(500), .silence_max = seconds(3)});
  it.client_.Await(0, it.now_);
  for (int i = 0; i < 20; ++i) {  // server 1 answers that it has nothing yet, server 0 does too, for a while
    it.now_ += milliseconds(500);
    for (const Chunk& chunk : it.client_.sharding().chunks) {
      if (chunk.server == 1 || i < 4) it.Answer(chunk.server, PullLater{chunk.range.begin});
    }
    it.client_.Tick(it.now_);
    const auto failed = it.Event<ClientFailed>();
    if (i < 9) {
      ASSERT_FALSE(failed) << i;
    }
    if (failed) {
      EXPECT_EQ(failed->status.code(), StatusCode::kDeadlineExceeded);
      EXPECT_THAT(dtrain::Message(failed->status), HasSubstr("ask server 0 (Pull"));
      return;
    }
  }
  ADD_FAILURE() << "never gave up";
}

TEST(Client, ParametersOfTheOpenStepStayUntilAllOfTheNextAreThere) {
  OneClient it;
  it.client_.Await(0, it.now_);
  it.GiveParameters(0);
  EXPECT_EQ(it.Event<ParametersReady>()->step, 0);
  it.client_.Push({0, 0, {0, 0}}, it.gradient_, 1, it.now_);
  it.client_.Finish(0, {0, 0}, 1, 1, true, it.now_);
  it.client_.Await(1, it.now_);
  for (const int server : {0, 1}) it.Answer(server, Closed{0, 1});
  const std::vector<float> next(16, 1);
  for (int c = 0; c < 3; ++c) it.Answer(c / 2, Parameters{1, it.client_.sharding().chunks[c].range.begin}, next);
  EXPECT_EQ(it.client_.parameters()[0], 0);
  EXPECT_FALSE(it.Event<ParametersReady>());
  it.Answer(1, Parameters{0, it.client_.sharding().chunks[3].range.begin}, next);
  EXPECT_FALSE(it.Event<ParametersReady>()) << "the version of before will not do";
  it.Answer(1, Parameters{1, it.client_.sharding().chunks[3].range.begin}, next);
  EXPECT_EQ(it.Event<ParametersReady>()->version_min, 1);
  EXPECT_EQ(it.client_.parameters()[0], 1);
}

TEST(Client, JoinsTheSumsOfAllServersAndTellsThemAll) {
  OneClient it;
  it.client_.Finish(0, {0, 0}, 1, 1, true, it.now_);
  it.Answer(0, Sums{0, {{1, 0, 3.0}}});
  EXPECT_TRUE(it.Sent<Close>().empty());
  it.Answer(1, Sums{0, {{1, 1, 4.0}}});
  const auto closes = it.Sent<Close>();
  ASSERT_EQ(closes.size(), 2u);
  EXPECT_EQ(closes[0].square_sum, 7.0);
  // Another worker was faster with server 0: its answer says what to tell server 1.
  OneClient other;
  other.client_.Finish(0, {0, 0}, 1, 1, true, other.now_);
  Closed closed{.step = 0, .version = 1, .has_square_sum = true, .square_sum = 9};
  other.Answer(0, closed);
  EXPECT_TRUE(other.Sent<Close>().empty()) << "server 1 has not told its sums";
  other.Answer(1, Sums{0, {{1, 1, 4.0}}});
  std::vector<int> servers;
  EXPECT_EQ(other.Sent<Close>(&servers).at(0).square_sum, 9);
  EXPECT_EQ(servers, (std::vector<int>{1}));
}

TEST(Client, AViewIsFollowedAndWhatWasSaidInAnotherIsNotBelieved) {
  OneClient it;
  it.client_.Push({0, 0, {0, 0}}, it.gradient_, 1, it.now_);
  it.Sent<Push>();
  it.Answer(0, PushAnswer{{0, 0, {0, 0}}, 0, PushOutcome::kTaken, 0}, {}, 2);
  it.Answer(0, WrongView{0}, {}, 2);
  EXPECT_FALSE(it.Event<ViewChanged>()) << "about something that was sent in a view before ours";
  it.Answer(0, WrongView{1}, {}, 0);
  EXPECT_FALSE(it.Event<ViewChanged>()) << "the server is behind";
  it.Answer(0, WrongView{1}, {}, 2);
  EXPECT_EQ(it.Event<ViewChanged>()->view, 2);
  it.now_ += seconds(30);
  it.client_.Tick(it.now_);
  EXPECT_TRUE(it.Sent<Push>().empty()) << "until the coordinator has said which view is ours";
  EXPECT_EQ(it.client_.NextTick(), TimePoint::max());
  it.client_.SetView(2, 10, it.now_);
  EXPECT_EQ(it.Sent<Push>().size(), 4u) << "all of it again, also what an answer of another view claimed";
  EXPECT_FALSE(it.Event<ClientFailed>()) << "waiting for a view is no silence of a server";
}

TEST(Client, ARefusalOfWhatWasAskedEndsItAndAStrayOneDoesNot) {
  OneClient it;
  it.client_.Push({0, 3, {0, 0}}, it.gradient_, 1, it.now_);
  const int32_t push = static_cast<int32_t>(Body(Push{}).index());
  it.Answer(0, Refused{3, "no", push, 2, 0});
  it.Answer(0, Refused{3, "no", 0, 3, 0});
  EXPECT_FALSE(it.Event<ClientFailed>());
  it.Answer(0, Refused{3, "no such chunk", push, 3, 0});
  EXPECT_THAT(dtrain::Message(it.Event<ClientFailed>()->status), HasSubstr("server 0 refused: no such chunk"));
}

TEST(Client, AnotherTableStopsIt) {
  OneClient it;
  it.client_.Await(0, it.now_);
  Table other = it.table_;
  other.version = 2;
  it.Answer(1, WrongTable{other});
  EXPECT_EQ(it.Event<TableChanged>()->table.version, 2u);
}

TEST(Client, WhatAServerMakesUpIsIgnored) {
  OneClient it;
  it.client_.Await(0, it.now_);
  it.Sent<Pull>();
  it.Answer(0, Parameters{0, 8}, std::vector<float>(16, 9));
  it.Answer(0, Parameters{0, 0}, std::vector<float>(15, 9));
  it.Answer(0, PushAnswer{{0, 0, {0, 0}}, 8, PushOutcome::kTaken, 0});
  it.Answer(0, Sums{4, {{0, 0, 1}}});
  it.Answer(0, Closed{9, 10});
  it.Answer(7, PullLater{0});
  it.GiveParameters(0);
  EXPECT_TRUE(it.Event<ParametersReady>());
}

}  // namespace
}  // namespace dtrain::ps
