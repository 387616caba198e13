// The program `dtrain`: the command line. Ranks are the program beside it, dtrain-rank.
#include <filesystem>
#include <string>
#include <vector>

#include "trainer/cli/cli.h"

int main(int argc, char** argv) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::vector<std::string> words(argv + 1, argv + argc);
  return dtrain::CliMain(words, {.path = (self.parent_path() / "dtrain-rank").string()});
}
