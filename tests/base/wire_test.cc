// Goal: a frame is read back as it was written, and nothing else is taken for one, whatever a peer sends. Method: round
// trips over every field's extremes, every bit flipped, every length; the kept corpus with the reason for each file; and
// seeded mutations of it, half of them with checksums made right again so that they get past those. The oracle for what is
// accepted: a frame has exactly one encoding.
#include "base/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "base/crc32c.h"
#include "base/digest.h"
#include "base/rng.h"
#include "tests/base/documented_bytes.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;

using Buffer = std::vector<std::byte>;

constexpr size_t kPayloadCrcAt = 68, kHeaderCrcAt = 72;

Buffer Whole(FrameHeader header, const Buffer& payload) {
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  Buffer bytes = EncodeFrameHeader(header, payload);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

Buffer SamplePayload(size_t bytes) {
  Buffer payload(bytes);
  for (size_t i = 0; i < bytes; ++i) payload[i] = static_cast<std::byte>(i * 37 + 1);
  return payload;
}

const FrameHeader kSample = {.kind = FrameKind::kReduce,
                             .dtype = DType::kF32,
                             .job = 0x1122334455667788,
                             .view = 3,
                             .exchange = 1,
                             .step = 500,
                             .part = uint64_t{2} << 48 | 1,
                             .offset = 4096};

// Makes both checksums fit the bytes again.
void Reseal(Buffer& bytes) {
  if (bytes.size() < kFrameHeaderBytes) return;
  const auto put = [&](size_t at, uint32_t crc32c) { std::memcpy(bytes.data() + at, &crc32c, sizeof crc32c); };
  put(kPayloadCrcAt, Crc32c(std::span(bytes).subspan(kFrameHeaderBytes)));
  put(kHeaderCrcAt, Crc32c(std::span(bytes).first(kHeaderCrcAt)));
}

void ExpectEqual(const FrameHeader& a, const FrameHeader& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.job, b.job);
  EXPECT_EQ(a.view, b.view);
  EXPECT_EQ(a.exchange, b.exchange);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.part, b.part);
  EXPECT_EQ(a.offset, b.offset);
}

TEST(Frame, ReadsBackAsItWasWrittenForTheExtremesOfEveryField) {
  std::vector<FrameHeader> headers = {kSample, {}};
  for (const auto kind : {FrameKind::kPush, FrameKind::kPull, FrameKind::kReduce, FrameKind::kGather, FrameKind::kControl})
    headers.push_back({.kind = kind});
  for (int dtype = 0; dtype <= 7; ++dtype) headers.push_back({.dtype = static_cast<DType>(dtype)});
  headers.push_back(
      {.job = UINT64_MAX, .view = INT64_MAX, .exchange = UINT32_MAX, .step = INT64_MAX, .part = UINT64_MAX, .offset = INT64_MAX - 4096});
  for (const FrameHeader& header : headers) {
    for (const size_t size : {0, 8, 64, 4096}) {
      const Buffer payload = SamplePayload(size), bytes = Whole(header, payload);
      const auto frame = ParseFrame(bytes);
      ASSERT_TRUE(frame.ok()) << frame.status();
      ExpectEqual(frame->header, header);
      EXPECT_EQ(frame->header.payload_bytes, size);
      EXPECT_TRUE(std::equal(frame->payload.begin(), frame->payload.end(), payload.begin(), payload.end()));
    }
  }
}

TEST(Frame, EveryFlippedBitIsRefused) {
  const Buffer good = Whole(kSample, SamplePayload(24));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    Buffer bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_EQ(ParseFrame(bad).status().code(), StatusCode::kDataLoss) << "bit " << bit;
  }
}

TEST(Frame, EveryOtherLengthIsRefused) {
  const Buffer good = Whole(kSample, SamplePayload(24));
  for (size_t bytes = 0; bytes < good.size() + 100; ++bytes) {
    if (bytes == good.size()) continue;
    Buffer bad = good;
    bad.resize(bytes);
    bad.shrink_to_fit();  // so that the address sanitizer sees a read past the end
    EXPECT_EQ(ParseFrame(bad).status().code(), StatusCode::kDataLoss) << bytes;
  }
}

TEST(Frame, AnotherVersionIsToldFromDamage) {
  Buffer newer = Whole(kSample, {});
  newer[4] = std::byte{2};
  Reseal(newer);
  const auto status = ParseFrame(newer).status();
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_THAT(Message(status), HasSubstr("version 2; this program reads version 1\n  Hint: run the same build of dtrain on every host"));
}

TEST(FrameDeathTest, PayloadOfAnotherSizeThanTheHeaderSaysIsAMistakeOfOurs) {
  EXPECT_DEATH(EncodeFrameHeader({.payload_bytes = 5}, SamplePayload(4)), "internal error");
}

const std::string kCorpus = DTRAIN_SOURCE_DIR "/tests/base/corpus/wire";

Buffer ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// Name of a kept file -> "ok", or what the refusal says.
std::map<std::string, std::string> Expected() {
  std::ifstream list(kCorpus + "/EXPECTED");
  std::map<std::string, std::string> expected;
  for (std::string name, what; list >> name && std::getline(list >> std::ws, what);) expected[name] = what;
  return expected;
}

TEST(FrameCorpus, EveryKeptFileIsAcceptedOrRefusedForTheReasonThatIsListed) {
  const auto expected = Expected();
  EXPECT_GE(expected.size(), 15u);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kCorpus)) {
    const std::string name = entry.path().filename();
    if (name == "EXPECTED") continue;
    ++files;
    ASSERT_TRUE(expected.contains(name)) << name << " is not in EXPECTED";
    const Status status = ParseFrame(ReadFile(entry.path())).status();
    if (expected.at(name) == "ok") {
      EXPECT_TRUE(status.ok()) << name << ": " << status;
    } else {
      EXPECT_FALSE(status.ok()) << name;
      EXPECT_THAT(Message(status), HasSubstr(expected.at(name))) << name;
    }
  }
  EXPECT_EQ(files, expected.size());
}

TEST(FrameCorpus, MutatedFramesNeverCrashAndWhatIsAcceptedHasNoOtherEncoding) {
  std::vector<Buffer> seeds;
  for (const auto& [name, what] : Expected()) seeds.push_back(ReadFile(kCorpus + "/" + name));
  ASSERT_FALSE(seeds.empty());
  Rng rng(20, RngPurpose::kSynthetic);
  constexpr int kMutants = 2'000'000;
  int accepted = 0;
  for (int i = 0; i < kMutants; ++i) {
    Buffer bytes = seeds[rng.Below(seeds.size())];
    const bool reseal = rng.Below(2) == 0;
    for (uint64_t n = 1 + rng.Below(3); n > 0 && !bytes.empty(); --n) {
      // Mostly in the header: there is nothing to decide in a payload.
      const size_t at = rng.Below(rng.Below(4) == 0 ? bytes.size() : std::min(bytes.size(), kFrameHeaderBytes));
      constexpr std::byte kBorders[] = {std::byte{0}, std::byte{1}, std::byte{0x7f}, std::byte{0x80}, std::byte{0xff}};
      const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
      switch (rng.Below(6)) {
        case 0:
          *place ^= static_cast<std::byte>(1 << rng.Below(8));
          break;
        case 1:
          *place = kBorders[rng.Below(5)];
          break;
        case 2:
          std::fill(place, bytes.begin() + static_cast<std::ptrdiff_t>(std::min(at + 8, bytes.size())), kBorders[rng.Below(5)]);
          break;
        case 3:
          bytes.erase(place, bytes.begin() + static_cast<std::ptrdiff_t>(std::min(at + 1 + rng.Below(8), bytes.size())));
          break;
        case 4:
          bytes.insert(place, 1 + rng.Below(8), static_cast<std::byte>(rng()));
          break;
        case 5:
          bytes.resize(at);
          break;
      }
    }
    if (reseal) Reseal(bytes);
    bytes.shrink_to_fit();
    const auto frame = ParseFrame(bytes);
    if (!frame.ok()) continue;
    ++accepted;
    ASSERT_GE(frame->header.view, 0);
    ASSERT_GE(frame->header.step, 0);
    ASSERT_GE(frame->header.offset, 0);
    ASSERT_EQ(EncodeFrameHeader(frame->header, frame->payload), Buffer(bytes.begin(), bytes.begin() + kFrameHeaderBytes)) << Hex(bytes);
    ASSERT_EQ(frame->payload.size(), bytes.size() - kFrameHeaderBytes);
  }
  EXPECT_GT(accepted, kMutants / 50);  // else the mutants die at the checksums and this test sees nothing
}

TEST(FrameDocumentation, ExampleInBytesIsTheFrameThatThePageDescribes) {
  const auto bytes = DocumentedBytes(DTRAIN_SOURCE_DIR "/docs/wire.md", "frame");
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const std::vector<float> gradient = {0.5f, -1.0f};
  const auto payload = std::as_bytes(std::span(gradient));
  EXPECT_EQ(Hex(*bytes), Hex(Whole(kSample, {payload.begin(), payload.end()})));
}

}  // namespace
}  // namespace dtrain
