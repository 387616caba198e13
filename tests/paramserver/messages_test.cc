// Goal: what one process says another hears unchanged, and no bytes make the decoder do anything but say no. Method: round
// trips; every truncation; every single flipped bit; seeded damage whose checksum is put right again, because that is what
// a hostile peer sends. The encoding is canonical: what is taken encodes to the very bytes it came from.
#include "paramserver/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "base/crc32c.h"
#include "base/rng.h"
#include "base/wire.h"
#include "paramserver/limits.h"

namespace dtrain::ps {
namespace {

using testing::HasSubstr;

const std::vector<float> kElements = {1.5F, -2, 0, 3e30F, 5};

std::vector<Message> Samples() {
  const Sender worker{77, 5, 3, 9, 2}, server{77, 5, kNoWorker, 4, 2};
  Table table{.version = 2, .servers = 2, .chunk_bytes = 4096};
  table.entries = {{{"a", DType::kF32, {3, 4}}, 0}, {{"b", DType::kF32, {}}, 1}};
  const Work work{0, 12, {1, 3}};
  return {{worker, Register{table}, {}},
          {worker, Initial{64}, kElements},
          {worker, Push{work, 128, 11, 0.5}, kElements},
          {worker, Finish{12, {2, 1}, 32, 70.5, true, true}, {}},
          {worker, Pull{64, 3, 9}, {}},
          {worker, Close{12, 3.25}, {}},
          {worker, Claim{12, 16}, {}},
          {server, Registered{true, 12}, {}},
          {server, InitialTaken{64}, {}},
          {server, PushAnswer{work, 128, PushOutcome::kLater, 12}, {}},
          {server, Waiting{12}, {}},
          {server, Sums{12, {{3, 0, 1.5}, {0, 8, 2}}}, {}},
          {server, Closed{12, 13, true, false, 64, 3, 0.5, true, 9}, {}},
          {server, Parameters{13, 128}, kElements},
          {server, PullLater{128}, {}},
          {server, Passed{128, 40}, {}},
          {server, Granted{12, -1}, {}},
          {server, WrongView{4}, {}},
          {server, WrongTable{table}, {}},
          {server, Refused{3, "why not", 2, 12, 128}, {}},
          {{77, 6, kNoWorker, 0, 0}, OpenView{{{0, 3}, {2, 8}}}, {}},
          {server, ViewTaken{-1}, {}}};
}

TEST(PsMessages, EveryKindComesBackUnchanged) {
  std::set<size_t> kinds;
  for (const Message& message : Samples()) {
    kinds.insert(message.body.index());
    const auto bytes = Encode(message);
    const auto decoded = Decode(bytes);
    ASSERT_TRUE(decoded.ok()) << NameOf(message) << ": " << decoded.status().message();
    EXPECT_TRUE(decoded->sender == message.sender) << NameOf(message);
    EXPECT_EQ(decoded->body.index(), message.body.index());
    EXPECT_EQ(Encode(*decoded), bytes) << NameOf(message);
    EXPECT_TRUE(std::ranges::equal(decoded->elements, message.elements)) << NameOf(message);
    EXPECT_EQ(EncodeHead(message).size() % 16, 0u) << "elements would not lie on 16 bytes";
  }
  EXPECT_EQ(kinds.size(), std::variant_size_v<Body>) << "a kind has no sample";
  const auto push = Decode(Encode(Samples()[2]));
  EXPECT_TRUE(std::get<Push>(push->body).work == (Work{0, 12, {1, 3}}));
  EXPECT_EQ(std::get<Push>(push->body).offset, 128);
  EXPECT_EQ(std::get<Push>(push->body).read_version, 11);
}

TEST(PsMessages, EveryTruncationEveryAdditionAndEveryFlippedBitIsRefused) {
  for (const Message& message : Samples()) {
    std::vector<std::byte> bytes = Encode(message);
    for (size_t count = 0; count < bytes.size(); ++count) {
      ASSERT_FALSE(Decode(std::span(bytes).first(count)).ok()) << NameOf(message) << " cut to " << count;
    }
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      bytes[bit / 8] ^= std::byte{static_cast<uint8_t>(1U << (bit % 8))};
      ASSERT_FALSE(Decode(bytes).ok()) << NameOf(message) << " with bit " << bit << " flipped";
      bytes[bit / 8] ^= std::byte{static_cast<uint8_t>(1U << (bit % 8))};
    }
    bytes.insert(bytes.end(), 16, std::byte{0});
    EXPECT_EQ(Decode(bytes).status().code(), StatusCode::kDataLoss) << NameOf(message);
  }
}

// Makes the head's checksum right, if the head's size is still in reach.
void PutChecksumRight(std::vector<std::byte>& bytes) {
  uint32_t size = 0;
  if (bytes.size() < 16) return;
  std::memcpy(&size, bytes.data() + 4, 4);
  if (size < 12 || size > bytes.size()) return;
  const uint32_t crc = Crc32c(std::span(bytes).first(size - 4));
  std::memcpy(bytes.data() + size - 4, &crc, 4);
}

TEST(PsMessages, LiesWithARightChecksumAreRefusedOrMeanExactlyWhatTheySay) {
  int taken = 0, refused = 0;
  for (const Message& message : Samples()) {
    const std::vector<std::byte> bytes = Encode(message);
    Rng rng(7, RngPurpose::kSynthetic, message.body.index());
    for (int i = 0; i < 4'000; ++i) {
      std::vector<std::byte> lie = bytes;
      for (uint64_t n = rng.Below(3) + 1; n > 0; --n) {
        const auto at = rng.Below(lie.size());
        switch (rng.Below(5)) {
          case 0:
            lie.insert(lie.begin() + static_cast<std::ptrdiff_t>(at), 16, std::byte{static_cast<uint8_t>(rng.Next())});
            break;
          case 1:
            lie[at] ^= std::byte{static_cast<uint8_t>(1U << rng.Below(8))};
            break;
          case 2:
            lie[at] = std::byte{0xFF};
            break;
          case 3:  // a whole number
            for (size_t k = at / 8 * 8; k < std::min(at / 8 * 8 + 8, lie.size()); ++k)
              lie[k] = std::byte{static_cast<uint8_t>(rng.Below(2) * 0xFF)};
            break;
          default:
            lie[2] = std::byte{static_cast<uint8_t>(rng.Below(30))};  // another kind
        }
      }
      PutChecksumRight(lie);
      const auto decoded = Decode(lie);
      ++(decoded.ok() ? taken : refused);
      if (decoded.ok()) {
        ASSERT_EQ(Encode(*decoded), lie) << NameOf(*decoded) << " draw " << i;
      }
    }
  }
  EXPECT_GT(taken, 5'000);
  EXPECT_GT(refused, 10'000);
}

TEST(PsMessages, NoiseIsRefused) {
  Rng rng(8, RngPurpose::kSynthetic);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> noise(rng.Below(200));
    for (std::byte& byte : noise) byte = std::byte{static_cast<uint8_t>(rng.Next())};
    ASSERT_FALSE(Decode(noise).ok());
  }
}

TEST(PsMessages, AnotherVersionIsNamed) {
  auto bytes = Encode({{}, WrongView{}, {}});
  bytes[0] = std::byte{9};
  PutChecksumRight(bytes);
  const auto decoded = Decode(bytes);
  EXPECT_EQ(decoded.status().code(), StatusCode::kUnimplemented);
  EXPECT_THAT(dtrain::Message(decoded.status()), HasSubstr("found version 9, expected 1"));
}

TEST(PsMessages, AFrameThatContradictsItsHeadIsRefused) {
  const Message push = Samples()[2];
  const auto with_frame = [&](auto change) {
    std::vector<std::byte> bytes = Encode(push);
    const size_t head = bytes.size() - kFrameHeaderBytes - kElements.size() * sizeof(float);
    FrameHeader header = ParseFrame(std::span(bytes).subspan(head))->header;
    std::vector<std::byte> payload(bytes.end() - static_cast<std::ptrdiff_t>(header.payload_bytes), bytes.end());
    change(header);
    payload.resize(header.payload_bytes);
    const auto frame = EncodeFrameHeader(header, payload);
    bytes.resize(head);
    bytes.insert(bytes.end(), frame.begin(), frame.end());
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return Decode(bytes).status().code();
  };
  EXPECT_EQ(with_frame([](FrameHeader&) {}), StatusCode::kOk);
  EXPECT_EQ(with_frame([](FrameHeader& f) { f.job = 78; }), StatusCode::kDataLoss);
  EXPECT_EQ(with_frame([](FrameHeader& f) { f.view = 6; }), StatusCode::kDataLoss);
  EXPECT_EQ(with_frame([](FrameHeader& f) { f.kind = FrameKind::kPull; }), StatusCode::kDataLoss);
  EXPECT_EQ(with_frame([](FrameHeader& f) { f.exchange = 1; }), StatusCode::kDataLoss);
  EXPECT_EQ(with_frame([](FrameHeader& f) { f.part = uint64_t{40} << 48; }), StatusCode::kDataLoss);
  EXPECT_EQ(with_frame([](FrameHeader& f) { f.part = kLeavesMax; }), StatusCode::kDataLoss);
  EXPECT_EQ(with_frame([](FrameHeader& f) { f.offset = kElementsMax + 1; }), StatusCode::kDataLoss);
  EXPECT_EQ(with_frame([](FrameHeader& f) { f.dtype = DType::kI32; }), StatusCode::kDataLoss);
  EXPECT_EQ(with_frame([](FrameHeader& f) { f.payload_bytes = static_cast<uint32_t>(kChunkBytesMax + 2 * kBlockElements * 4); }),
            StatusCode::kDataLoss);
}

}  // namespace
}  // namespace dtrain::ps
