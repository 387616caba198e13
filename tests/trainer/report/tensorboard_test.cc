// Goal: TensorBoard reads what we write. Method: the published definition of the frame and the bytes that every event file
// begins with; then TensorBoard's own Python reader, where it is installed, gives back equal values.
#include "trainer/report/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>

#include "tests/trainer/report/sample_events.h"
#include "trainer/storage/posix_storage.h"

namespace dtrain {
namespace {

using testing::ElementsAre;

std::span<const std::byte> BytesOf(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(MaskedCrc32c, FollowsItsDefinition) {
  // CRC32C of "123456789" is E3069283 (RFC 3720): rotated right by 15 bits, plus a282ead8.
  EXPECT_EQ(MaskedCrc32c(BytesOf("123456789")), 0xC78AB0E5U);
  // RFC 3720, B.4: 32 bytes of zeros have the CRC32C 8a9136aa.
  EXPECT_EQ(MaskedCrc32c(BytesOf(std::string(32, '\0'))), (0x8a9136aaU >> 15 | 0x8a9136aaU << 17) + 0xa282ead8U);
}

TEST(TensorboardWriter, BeginsWithTheBytesThatEveryEventFileBeginsWith) {
  SimStorage storage;
  ASSERT_TRUE(TensorboardWriter::Create(storage, "events", 1.5, 0).ok());
  const std::string text = TextOf(storage, "events");
  // Length 24 and its masked checksum, as in any file that TensorFlow or PyTorch writes; then wall_time and file_version.
  const std::string head("\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22\x09", 13);
  EXPECT_EQ(text.substr(0, 13), head);
  double wall = 0;
  std::memcpy(&wall, text.data() + 13, sizeof wall);
  EXPECT_EQ(wall, 1.5);
  EXPECT_EQ(text.substr(21, 15),
            "\x1a\x0d"
            "brain.Event:2");
}

TEST(TensorboardWriter, EncodesScalarsAsProtobufDoes) {
  SimStorage storage;
  auto writer = TensorboardWriter::Create(storage, "events", 0, 0);
  ASSERT_TRUE(writer.ok());
  const size_t before = TextOf(storage, "events").size();
  ASSERT_TRUE(writer->Write(2.0, 300, {{"a", 1.0}}).ok());
  // wall_time 2.0; step 300 = AC 02; summary of 10 bytes: value of 8: tag "a", simple_value 1.0f.
  const std::string event(
      "\x09\0\0\0\0\0\0\0\x40\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01"
      "a"
      "\x15\0\0\x80\x3f",
      24);
  EXPECT_EQ(TextOf(storage, "events").substr(before), TfRecord(event));
}

TEST(TensorboardWriter, StopsAtATornRecord) {
  SimStorage storage;
  auto writer = TensorboardWriter::Create(storage, "events", 0, 0);
  ASSERT_TRUE(writer.ok());
  storage.SetCapacity(static_cast<int64_t>(TextOf(storage, "events").size()) + 3);
  EXPECT_FALSE(writer->Write(0, 1, {{"a", 1.0}}).ok());
  storage.SetCapacity(1 << 20);
  EXPECT_FALSE(writer->Write(0, 2, {{"a", 1.0}}).ok()) << "a record behind a torn one is never read";
}

TEST(EventFileName, SortsByTimeAndStaysInItsFolder) {
  EXPECT_EQ(EventFileName(1767225600.7, "worker/7", 4711), "events.out.tfevents.1767225600.worker_7.4711");
}

constexpr const char* kReader = R"(
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0})
events.Reload()
for tag in sorted(events.Tags()['scalars']):
    for e in events.Scalars(tag):
        print(tag, e.step, repr(e.wall_time), e.value.hex())
)";

// What TensorBoard reads in a folder, one line a scalar.
std::vector<std::string> ReadByPython(const std::string& folder) {
  const std::string script = folder + "/reader.py";
  std::FILE* file = std::fopen(script.c_str(), "w");
  std::fputs(kReader, file);
  std::fclose(file);
  std::FILE* pipe = ::popen(Cat(DTRAIN_TEST_PYTHON, " ", script, " ", folder, " 2>", folder, "/errors").c_str(), "r");
  std::vector<std::string> lines;
  char line[512];
  while (std::fgets(line, sizeof line, pipe) != nullptr) lines.emplace_back(Trim(line));
  EXPECT_EQ(::pclose(pipe), 0);
  return lines;
}

TEST(TensorboardWriter, PythonReadsEqualValuesAndForgetsWhatAResumeUndid) {
  if (!std::filesystem::exists(DTRAIN_TEST_PYTHON)) GTEST_SKIP() << "no Python environment here (scripts/setup.sh makes it)";
  char folder[] = "/tmp/dtrain-tensorboard-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  {
    auto first = TensorboardWriter::Create(PosixStorage(), Cat(folder, "/", EventFileName(1000, "h", 1)), 1000, 0);
    ASSERT_TRUE(first.ok());
    for (const Step step : {1, 200, 40'000}) {
      ASSERT_TRUE(first->Write(1000.25, step, {{"train/loss", 1.0 / static_cast<double>(step)}, {"valid/accuracy", 0.5}}).ok());
    }
    auto second = TensorboardWriter::Create(PosixStorage(), Cat(folder, "/", EventFileName(2000, "h", 1)), 2000, 201);
    ASSERT_TRUE(second.ok());
    ASSERT_TRUE(second->Write(2000.5, 30'000'000'000, {{"train/loss", 1e-30}}).ok());
  }
  const auto line = [](const char* tag, Step step, const char* wall, double value) {
    char text[128];
    std::snprintf(text, sizeof text, "%s %lld %s", tag, static_cast<long long>(step), wall);
    return std::pair(std::string(text), static_cast<float>(value));
  };
  std::vector<std::pair<std::string, float>> found;
  for (const std::string& read : ReadByPython(folder)) {
    const size_t space = read.rfind(' ');
    found.emplace_back(read.substr(0, space), std::strtof(read.substr(space + 1).c_str(), nullptr));
  }
  EXPECT_THAT(found, ElementsAre(line("train/loss", 1, "1000.25", 1), line("train/loss", 200, "1000.25", 1.0 / 200),
                                 line("train/loss", 30'000'000'000, "2000.5", 1e-30), line("valid/accuracy", 1, "1000.25", 0.5),
                                 line("valid/accuracy", 200, "1000.25", 0.5)));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace dtrain
