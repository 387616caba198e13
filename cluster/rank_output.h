// What a rank prints: into its log as it is, line by line to whoever shows it, and the last lines kept for the message
// about its death.
#pragma once
#include <deque>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "cluster/file_descriptor.h"

namespace dtrain {

inline constexpr size_t kOutputLineBytesMax = 8192;  // a longer line is cut into several
inline constexpr size_t kTailLines = 10;

class RankOutput {
 public:
  // Appends to the log at `path`, starting with `header` as a line of its own. Lines go to `on_line`, without their end.
  static StatusOr<RankOutput> Open(const std::string& path, std::string_view header, std::function<void(std::string_view)> on_line);

  // The first write that fails is returned; afterwards the log is given up, the lines are not.
  Status Add(std::string_view bytes);
  void Finish();  // a last line without an end is one too
  const std::deque<std::string>& tail() const { return tail_; }
  const std::string& path() const { return path_; }

 private:
  RankOutput() = default;
  void Line();

  std::string path_;
  FileDescriptor log_;
  std::function<void(std::string_view)> on_line_;
  std::string line_;
  std::deque<std::string> tail_;
};

}  // namespace dtrain
