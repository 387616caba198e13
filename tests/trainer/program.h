// The real program in a fresh folder, for tests: starting, waiting, reading what it leaves.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace dtrain {

namespace fs = std::filesystem;
using nlohmann::json;

inline constexpr const char* kConfigs = DTRAIN_SOURCE_DIR "/configs";

struct Outcome {
  int code = -1;
  std::string out, err;
};

inline std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class ProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "dtrain-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    if (!HasFailure()) fs::remove_all(folder_);
  }

  // What it prints goes to <as>out.txt and <as>err.txt in the folder.
  pid_t Start(std::vector<std::string> words, const std::string& program = DTRAIN_PROGRAM, const std::string& as = "") {
    words.insert(words.begin(), program);
    const pid_t pid = fork();
    if (pid != 0) return pid;
    if (chdir(folder_.c_str()) != 0) _exit(99);
    dup2(open((as + "out.txt").c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644), 1);
    dup2(open((as + "err.txt").c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644), 2);
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    execv(program.c_str(), pointers.data());
    _exit(98);
  }

  Outcome Wait(pid_t pid, const std::string& as = "") {
    int status = 0;
    waitpid(pid, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), ReadFile(folder_ / (as + "out.txt")),
            ReadFile(folder_ / (as + "err.txt"))};
  }

  Outcome Run(const std::vector<std::string>& words, const std::string& program = DTRAIN_PROGRAM) { return Wait(Start(words, program)); }

  json Result(const std::string& name) { return json::parse(ReadFile(folder_ / "runs" / name / "result.json"), nullptr, false); }

  // Trains quickstart for a few epochs under `name` and returns the parameter hash.
  std::string Hash(const std::string& name, int ranks, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"train", std::string(kConfigs) + "/quickstart.yaml", "-n", std::to_string(ranks), "run.name=" + name};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Run(words);
    EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
    const json result = Result(name);
    return result.is_object() ? result.value("parameter_hash", "none") : "none";
  }

  void Write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name, std::ios::binary) << text; }

  // Waits until a checkpoint of at least `step` is there.
  bool WaitForCheckpoint(const std::string& name, int64_t step) {
    for (int i = 0; i < 3000; ++i) {
      std::error_code error;
      for (const auto& entry : fs::directory_iterator(folder_ / "runs" / name / "checkpoints", error)) {
        const std::string file = entry.path().filename().string();
        if (file.starts_with("step-") && file.find('.') == std::string::npos && std::stoll(file.substr(5)) >= step) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  // Pids of the ranks, from processes.json.
  std::vector<pid_t> RankPids(const std::string& name) {
    std::vector<pid_t> pids;
    const json processes = json::parse(ReadFile(folder_ / "runs" / name / "processes.json"), nullptr, false);
    const json& list = processes.is_object() && processes.contains("processes") ? processes["processes"] : processes;
    if (!list.is_array()) return pids;
    for (const json& process : list) {
      if (process.value("role", "") == "rank") pids.push_back(process.value("pid", 0));
    }
    return pids;
  }

  fs::path folder_;
};

}  // namespace dtrain
