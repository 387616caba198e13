// Goal: what one process says, another hears unchanged, and no bytes make a decoder do anything but say no.
// Method: round trips; then seeded damage of every kind of message. The encoding is canonical, so whatever Decode takes
// must encode to the very bytes it was given.
#include "cluster/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/rng.h"

namespace dtrain {
namespace {

using testing::HasSubstr;

std::vector<ControlMessage> Samples() {
  Hello hello{PeerRole::kRank, 3, 8, 4711, "node7", {}, {}};
  hello.nonce[5] = std::byte{42};
  hello.mac[31] = std::byte{255};
  return {Challenge{hello.nonce},
          hello,
          Welcome{"{\"run\": 1}", std::chrono::seconds(5), hello.mac},
          Refused{"no"},
          Heartbeat{12, 99, true},
          Gather{"plan", 7, std::string("\0\1\2", 3)},
          Gathered{"plan", 7, {"a", "", std::string(1000, 'x')}},
          Event{"loss"},
          Request{true, 4},
          Failed{"rank 1 died", 5},
          Leave{8, "diverged", 6, 77},
          Farewell{},
          Query{"status"},
          Answer{false, "what?"},
          MeshHello{1, 2, 3, 4, 5, 6, hello.nonce, hello.mac},
          MeshWelcome{hello.mac}};
}

TEST(Messages, EveryKindComesBackUnchanged) {
  std::set<size_t> kinds;
  for (const ControlMessage& message : Samples()) {
    kinds.insert(message.index());
    const auto decoded = Decode(Encode(message));
    ASSERT_TRUE(decoded.ok()) << NameOf(message) << ": " << decoded.status().message();
    EXPECT_TRUE(*decoded == message) << NameOf(message);
  }
  EXPECT_EQ(kinds.size(), std::variant_size_v<ControlMessage>) << "a kind has no sample";
}

TEST(Messages, EveryTruncationAndEveryAdditionIsRefused) {
  for (const ControlMessage& message : Samples()) {
    std::vector<std::byte> bytes = Encode(message);
    for (size_t count = 0; count < bytes.size(); ++count) {
      EXPECT_FALSE(Decode(std::span(bytes).first(count)).ok()) << NameOf(message) << " cut to " << count;
    }
    bytes.push_back(std::byte{0});
    EXPECT_EQ(Decode(bytes).status().code(), StatusCode::kDataLoss) << NameOf(message);
  }
}

TEST(Messages, DamagedBytesAreRefusedOrMeanExactlyWhatTheySay) {
  int taken = 0, refused = 0;
  for (const ControlMessage& message : Samples()) {
    const std::vector<std::byte> bytes = Encode(message);
    Rng rng(7, RngPurpose::kSynthetic, message.index());
    for (int i = 0; i < 3'000; ++i) {
      std::vector<std::byte> damaged = bytes;
      for (uint64_t n = rng.Below(3) + 1; n > 0 && !damaged.empty(); --n) {
        const auto at = static_cast<std::ptrdiff_t>(rng.Below(damaged.size()));
        switch (rng.Below(4)) {
          case 0:
            damaged.erase(damaged.begin() + at);
            break;
          case 1:
            damaged.insert(damaged.begin() + at, std::byte{static_cast<uint8_t>(rng.Next())});
            break;
          case 2:
            damaged[static_cast<size_t>(at)] ^= std::byte{static_cast<uint8_t>(1U << rng.Below(8))};
            break;
          default:
            damaged[static_cast<size_t>(at)] = std::byte{0xFF};
        }
      }
      const auto decoded = Decode(damaged);
      ++(decoded.ok() ? taken : refused);
      if (decoded.ok()) {
        ASSERT_EQ(Encode(*decoded), damaged) << NameOf(*decoded) << " draw " << i;
      }
    }
  }
  // Both paths were really taken.
  EXPECT_GT(taken, 1'000);
  EXPECT_GT(refused, 10'000);
}

TEST(Messages, NoiseIsRefused) {
  Rng rng(8, RngPurpose::kSynthetic);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> noise(rng.Below(200));
    for (std::byte& byte : noise) byte = std::byte{static_cast<uint8_t>(rng.Next())};
    if (noise.size() > 2 && rng.Below(2) == 0) noise[0] = std::byte{kControlVersion};
    if (const auto decoded = Decode(noise); decoded.ok()) {
      EXPECT_EQ(Encode(*decoded), noise);
    }
  }
}

TEST(Messages, AnotherVersionIsNamed) {
  std::vector<std::byte> bytes = Encode(Heartbeat{});
  bytes[0] = std::byte{9};
  const auto decoded = Decode(bytes);
  EXPECT_EQ(decoded.status().code(), StatusCode::kUnimplemented);
  EXPECT_THAT(Message(decoded.status()), HasSubstr("found version 9, expected 1"));
}

TEST(Messages, FieldsOutsideTheirRangeAreRefused) {
  const auto with = [](ControlMessage message, size_t at, uint8_t value) {
    std::vector<std::byte> bytes = Encode(message);
    bytes[at] = std::byte{value};
    return Decode(bytes).status().code();
  };
  EXPECT_EQ(with(Heartbeat{}, 2 + 7, 0x80), StatusCode::kDataLoss) << "a step below -1";
  EXPECT_EQ(with(Heartbeat{}, 2 + 16, 2), StatusCode::kDataLoss) << "a flag of 2";
  EXPECT_EQ(with(Hello{}, 2, 3), StatusCode::kDataLoss) << "a role of 3";
  EXPECT_EQ(with(Leave{}, 2, 17), StatusCode::kDataLoss) << "a status code of 17";
  EXPECT_EQ(with(Welcome{"", Duration(1), {}}, 2 + 4, 0), StatusCode::kDataLoss) << "a deadline of 0";
}

TEST(Messages, WordsForPeopleAreCutAtTheirLimitAndNeverRefused) {
  const auto decoded = Decode(Encode(Leave{2, std::string(1 << 20, 'x'), 5, 1}));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(std::get<Leave>(*decoded).message.size(), kControlTextBytesMax);
}

}  // namespace
}  // namespace dtrain
