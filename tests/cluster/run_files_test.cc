// Goal: the files of a run directory say what the launcher knows, to the right readers. Method: real files.
#include "cluster/run_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "cluster/job_client.h"
#include "cluster/rank_output.h"

namespace dtrain {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RunFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = Cat(testing::TempDir(), "/dtrain-files-", Hex(SecureRandom()).substr(0, 12));
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
};

TEST_F(RunFilesTest, TheProcessTableIsAListInJson) {
  const std::vector<ProcessEntry> table = {{10, "launcher", 0, "a\"b", ""}, {11, "rank", 0, "host", "killed by signal 9 (SIGKILL)"}};
  ASSERT_TRUE(WriteProcessTable(directory_, table).ok());
  std::ifstream file(directory_ + "/processes.json");
  const auto json = nlohmann::json::parse(file);
  ASSERT_EQ(json.size(), 2U);
  EXPECT_EQ(json[0], nlohmann::json({{"pid", 10}, {"role", "launcher"}, {"number", 0}, {"host", "a\"b"}}));
  EXPECT_EQ(json[1]["ended"], "killed by signal 9 (SIGKILL)");
  EXPECT_FALSE(WriteProcessTable(directory_ + "/absent", table).ok());
}

TEST_F(RunFilesTest, TheControlFileIsForTheUserAlone) {
  ASSERT_TRUE(WriteControlFile(directory_, {{"127.0.0.1", 99}, "secret"}).ok());
  struct stat info;
  ASSERT_EQ(stat((directory_ + "/.control").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  const auto control = ReadControlFile(directory_);
  ASSERT_TRUE(control.ok());
  EXPECT_EQ(control->coordinator.port, 99);
  EXPECT_EQ(control->token, "secret");
  RemoveControlFile(directory_);
  EXPECT_EQ(ReadControlFile(directory_).status().code(), StatusCode::kFailedPrecondition);
}

TEST_F(RunFilesTest, AControlFileThatIsNoneIsRefused) {
  for (const char* text :
       {"", "dtrain control 1\n", "dtrain control 1\n127.0.0.1:99\n", "dtrain control 2\n127.0.0.1:99\nx\n", "\xff\xfe"}) {
    std::ofstream(directory_ + "/.control") << text;
    EXPECT_EQ(ReadControlFile(directory_).status().code(), StatusCode::kFailedPrecondition) << text;
  }
}

TEST_F(RunFilesTest, AJobThatDiedWithoutTidyingUpIsNoJob) {
  ASSERT_TRUE(WriteControlFile(directory_, {{"127.0.0.1", 1}, "secret"}).ok());
  const auto answer = AskJob(directory_, "status", Deadline::In(std::chrono::seconds(10)));
  EXPECT_EQ(answer.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(answer.status()), HasSubstr("no job runs there any more"));
}

TEST_F(RunFilesTest, OutputIsCutIntoLinesWhateverThePieces) {
  std::vector<std::string> lines;
  auto output = RankOutput::Open(directory_ + "/log", "=== head", [&](std::string_view line) { lines.emplace_back(line); });
  ASSERT_TRUE(output.ok());
  for (const char piece : std::string("one\n\ntwo\nthree")) ASSERT_TRUE(output->Add({&piece, 1}).ok());
  EXPECT_THAT(lines, ElementsAre("one", "", "two"));
  output->Finish();
  EXPECT_THAT(lines, ElementsAre("one", "", "two", "three"));
  std::ifstream log(directory_ + "/log");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(log), {}), "=== head\none\n\ntwo\nthree");
}

TEST_F(RunFilesTest, ALineOfExactlyTheLimitIsOneLine) {
  std::vector<size_t> sizes;
  auto output = RankOutput::Open(directory_ + "/log", "", [&](std::string_view line) { sizes.push_back(line.size()); });
  ASSERT_TRUE(output.ok());
  ASSERT_TRUE(output->Add(std::string(kOutputLineBytesMax - 1, 'x') + "\n" + std::string(2 * kOutputLineBytesMax + 5, 'y') + "\n").ok());
  EXPECT_THAT(sizes, ElementsAre(kOutputLineBytesMax - 1, kOutputLineBytesMax, kOutputLineBytesMax, 5));
}

TEST_F(RunFilesTest, ALogThatCannotBeWrittenIsAnError) {
  const auto output = RankOutput::Open("/dev/full", "head", nullptr);
  EXPECT_THAT(Message(output.status()), HasSubstr("write /dev/full: No space left on device"));
}

}  // namespace
}  // namespace dtrain
