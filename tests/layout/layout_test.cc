// Goal: the house stays as it is drawn: no folder includes one that it must not know, third-party headers stay in the few
// files named after them, and base stays small. Method: reads every #include of every source file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/text.h"

namespace dtrain {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;

const fs::path kSource = DTRAIN_SOURCE_DIR;

// Folder -> folders whose headers it may include, beside its own.
const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"base", {}},
    {"optim", {"base"}},
    {"cluster", {"base"}},
    {"allreduce", {"base", "optim", "cluster"}},
    {"paramserver", {"base", "optim", "cluster"}},
    {"datasets", {"base"}},
    {"models", {"base"}},
    {"trainer", {"base", "optim", "cluster", "allreduce", "paramserver", "datasets", "models"}},
};

struct Rule {
  std::string prefix;  // of the header between < > or " "
  std::string library;
  // Where it may stand: a path's begin ("models/"), a file's begin ("*/torch_"), or one file.
  std::vector<std::string> allowed;
  bool in_headers = false;
};

const std::vector<Rule> kRules = {
    {"torch/", "torch", {"models/", "trainer/*/torch_", "trainer/torch_", "trainer/dtrain.h"}, true},
    {"ATen/", "torch", {"models/", "trainer/*/torch_", "trainer/torch_", "trainer/dtrain.h"}, true},
    {"c10/", "torch", {"models/", "trainer/*/torch_", "trainer/torch_", "trainer/dtrain.h"}, true},
    {"grpc", "gRPC", {"*/grpc_"}},
    {"google/protobuf/", "protobuf", {"*/grpc_"}},
    {"mpi.h", "MPI", {"*/mpi_"}},
    {"nccl", "NCCL", {"*/nccl_"}},
    {"cuda", "CUDA", {"*/nccl_", "*/cuda_"}},
    {"yaml-cpp/", "yaml-cpp", {"*/yaml_"}},
    {"spdlog/", "spdlog", {"*/spdlog_"}},
    {"nlohmann/", "nlohmann-json", {"trainer/", "cluster/"}},
    {"cxxopts", "cxxopts", {"trainer/"}},
    {"zlib.h", "zlib", {"datasets/"}},
    {"isa-l", "ISA-L", {"base/crc32c.cc"}},
    {"openssl/", "OpenSSL", {"base/digest.cc"}},
    {"absl/", "abseil", {"base/status."}, true},
};

// '*' stands for any folders.
bool Allowed(const std::string& path, const std::string& pattern) {
  const size_t star = pattern.find('*');
  if (star == std::string::npos) return path.starts_with(pattern);
  if (!path.starts_with(pattern.substr(0, star))) return false;
  const size_t slash = path.rfind('/');
  return slash != std::string::npos && slash >= star && path.substr(slash).starts_with(pattern.substr(star + 1));
}

// What is wrong with one #include in `path` (relative to the project); empty if nothing.
std::string Fault(const std::string& path, const std::string& header) {
  const std::string folder = path.substr(0, path.find('/'));
  const std::string of = header.substr(0, header.find('/'));
  if (of == "tests" || of == "bench" || of == "examples") return Cat(path, ": includes ", header, ", which is no part of the library");
  if (kMayInclude.contains(of) && of != folder && !kMayInclude.at(folder).contains(of)) {
    return Cat(path, ": includes ", header, ", but ", folder, "/ may not know ", of, "/");
  }
  for (const Rule& rule : kRules) {
    if (!header.starts_with(rule.prefix)) continue;
    const bool is_header = path.ends_with(".h");
    const bool place = std::any_of(rule.allowed.begin(), rule.allowed.end(), [&](const auto& pattern) { return Allowed(path, pattern); });
    if (!place) return Cat(path, ": includes ", header, "; ", rule.library, " belongs only in ", Join(rule.allowed, ", "));
    if (is_header && !rule.in_headers) return Cat(path, ": includes ", header, "; ", rule.library, " belongs in .cc files only");
  }
  return "";
}

// The header of a line that is an #include; empty for any other.
std::string HeaderOf(std::string_view line) {
  line = Trim(line);
  if (!line.starts_with('#')) return "";
  line = Trim(line.substr(1));
  if (!line.starts_with("include")) return "";
  line = Trim(line.substr(7));
  if (line.empty() || (line[0] != '<' && line[0] != '"')) return "";
  return std::string(line.substr(1, line.find_first_of(">\"", 1) - 1));
}

std::vector<std::string> Lines(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::vector<fs::path> SourceFiles(const std::string& folder) {
  std::vector<fs::path> files;
  if (!fs::exists(kSource / folder)) return files;
  for (const auto& entry : fs::recursive_directory_iterator(kSource / folder)) {
    if (entry.path().extension() == ".h" || entry.path().extension() == ".cc" || entry.path().extension() == ".cu")
      files.push_back(entry.path());
  }
  return files;
}

TEST(Layout, NoFolderIncludesWhatItMustNotKnow) {
  std::vector<std::string> faults;
  int includes = 0;
  for (const auto& [folder, may] : kMayInclude) {
    for (const fs::path& file : SourceFiles(folder)) {
      for (const std::string& line : Lines(file)) {
        const std::string header = HeaderOf(line);
        if (header.empty()) continue;
        ++includes;
        if (std::string fault = Fault(fs::relative(file, kSource), header); !fault.empty()) faults.push_back(fault);
      }
    }
  }
  EXPECT_THAT(faults, IsEmpty());
  EXPECT_GT(includes, 300);  // else it looked in the wrong place
}

TEST(Layout, BaseStaysUnder2000Lines) {
  size_t lines = 0;
  for (const fs::path& file : SourceFiles("base")) lines += Lines(file).size();
  EXPECT_LT(lines, 2000u);
  EXPECT_GT(lines, 500u);
}

TEST(Layout, EveryHeaderIsIncludedOnceAndSaysWhatItIsFor) {
  for (const auto& [folder, may] : kMayInclude) {
    for (const fs::path& file : SourceFiles(folder)) {
      if (file.extension() != ".h") continue;
      const auto lines = Lines(file);
      ASSERT_FALSE(lines.empty()) << file;
      EXPECT_TRUE(lines[0].starts_with("// ")) << file << " does not begin with a comment";
      EXPECT_TRUE(std::find(lines.begin(), lines.end(), "#pragma once") != lines.end()) << file << " has no #pragma once";
    }
  }
}

// The rules themselves, so that a rule that lets everything through is noticed.
TEST(Layout, RulesRefuseEachKindOfCrossing) {
  const auto wrong = [](const std::string& path, const std::string& header) { return !Fault(path, header).empty(); };
  EXPECT_TRUE(wrong("base/a.cc", "optim/sgd.h"));
  EXPECT_TRUE(wrong("allreduce/a.cc", "paramserver/b.h"));
  EXPECT_TRUE(wrong("datasets/a.cc", "models/b.h"));
  EXPECT_TRUE(wrong("models/a.cc", "trainer/b.h"));
  EXPECT_TRUE(wrong("optim/a.cc", "cluster/b.h"));
  EXPECT_TRUE(wrong("trainer/a.cc", "tests/sim/sim_storage.h"));
  EXPECT_TRUE(wrong("trainer/a.cc", "torch/torch.h"));
  EXPECT_TRUE(wrong("optim/torch_a.cc", "ATen/Tensor.h"));
  EXPECT_TRUE(wrong("trainer/config/reader.cc", "yaml-cpp/parser.h"));
  EXPECT_TRUE(wrong("trainer/config/yaml_reader.h", "yaml-cpp/parser.h"));
  EXPECT_TRUE(wrong("cluster/a.cc", "mpi.h"));
  EXPECT_TRUE(wrong("trainer/a.h", "nlohmann/json.hpp"));
  EXPECT_TRUE(wrong("cluster/a.h", "absl/status/status.h"));
  EXPECT_FALSE(wrong("trainer/torch_loss.h", "torch/types.h"));
  EXPECT_FALSE(wrong("models/mlp.cc", "torch/nn/module.h"));
  EXPECT_FALSE(wrong("trainer/config/yaml_reader.cc", "yaml-cpp/parser.h"));
  EXPECT_FALSE(wrong("paramserver/grpc_server.cc", "grpcpp/grpcpp.h"));
  EXPECT_FALSE(wrong("allreduce/a.cc", "cluster/b.h"));
  EXPECT_FALSE(wrong("trainer/a.cc", "vector"));
  EXPECT_EQ(HeaderOf("  #  include \"base/a.h\"  // why"), "base/a.h");
  EXPECT_EQ(HeaderOf("#include <vector>"), "vector");
  EXPECT_EQ(HeaderOf("// #include <vector>"), "");
}

}  // namespace
}  // namespace dtrain
