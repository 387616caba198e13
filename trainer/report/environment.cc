#include "trainer/report/environment.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "base/text.h"
#include "cluster/handshake.h"

extern char** environ;

namespace dtrain {
namespace {

// Those that LibTorch's and our kernels are chosen by; x86 then ARM.
constexpr std::array<std::string_view, 16> kFlags = {"sse4_2",   "avx",      "f16c",        "fma",         "avx2",     "avx512f",
                                                     "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd",
                                                     "asimddp",  "bf16",     "sve",         "sve2"};

// JSON holds UTF-8 only; a name of another encoding must not cost the whole record.
std::string Ascii(std::string_view text) {
  std::string ascii(text);
  for (char& c : ascii) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return ascii;
}

bool IsSecret(std::string_view name) {
  return std::ranges::any_of(std::array<std::string_view, 5>{"TOKEN", "SECRET", "PASSWORD", "KEY", "CREDENTIAL"},
                             [&](std::string_view word) { return name.find(word) != std::string_view::npos; });
}

}  // namespace

Value DescribeProcessor(std::string_view cpuinfo) {
  Value::Map described = {{"cpu_model", Value()}, {"cpu_flags", Value()}};
  for (const std::string& line : Split(cpuinfo, '\n')) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string_view key = Trim(std::string_view(line).substr(0, colon));
    const std::string_view text = Trim(std::string_view(line).substr(colon + 1));
    if (key == "model name" && described["cpu_model"].is_null()) described["cpu_model"] = Ascii(text);
    if ((key == "flags" || key == "Features") && described["cpu_flags"].is_null()) {
      const std::vector<std::string> all = Split(text, ' ');
      std::vector<std::string> found;
      for (const std::string_view flag : kFlags) {
        if (std::ranges::find(all, flag) != all.end()) found.emplace_back(flag);
      }
      described["cpu_flags"] = Join(found, " ");
    }
  }
  return described;
}

Value::Map RecordedVariables(std::span<const std::string> environment) {
  Value::Map variables;
  for (const std::string& entry : environment) {
    const size_t equals = entry.find('=');
    const std::string name = entry.substr(0, equals);
    if (equals == std::string::npos || !(name.starts_with("DTRAIN_") || name.starts_with("OMP_")) || IsSecret(name)) continue;
    variables[Ascii(name)] = Ascii(entry.substr(equals + 1));
  }
  return variables;
}

Value DescribeEnvironment(std::string_view version, double wall_seconds, std::span<const std::string> command_line) {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::ostringstream text;
  text << cpuinfo.rdbuf();
  Value described = DescribeProcessor(text.str());
  described.Set("version", std::string(version));
  described.Set("started_at", wall_seconds);
  described.Set("host", Ascii(HostName()));
  utsname system = {};
  described.Set("kernel", ::uname(&system) == 0 ? Value(Cat(system.sysname, " ", system.release, " ", system.machine)) : Value());
  described.Set("cores", static_cast<int64_t>(std::thread::hardware_concurrency()));
  const int64_t pages = ::sysconf(_SC_PHYS_PAGES);
  described.Set("memory_bytes", pages > 0 ? Value(pages * ::sysconf(_SC_PAGE_SIZE)) : Value());
  Value::List words;
  for (const std::string& word : command_line) words.emplace_back(Ascii(word));
  described.Set("command_line", std::move(words));
  std::error_code error;
  const std::string directory = std::filesystem::current_path(error).string();
  described.Set("working_directory", error ? Value() : Value(Ascii(directory)));
  std::vector<std::string> environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) environment.emplace_back(*entry);
  described.Set("variables", RecordedVariables(environment));
  return described;
}

}  // namespace dtrain
