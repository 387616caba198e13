#include "cluster/rank_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace dtrain {
namespace {

Status WriteAll(int fd, const std::string& path, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Unavailable("write ", path, ": ", std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return OkStatus();
}

}  // namespace

StatusOr<RankOutput> RankOutput::Open(const std::string& path, std::string_view header, std::function<void(std::string_view)> on_line) {
  RankOutput output;
  output.path_ = path;
  output.on_line_ = std::move(on_line);
  output.log_ = FileDescriptor(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!output.log_.open()) return Unavailable("open ", path, ": ", std::strerror(errno));
  RETURN_IF_ERROR(WriteAll(output.log_.fd(), path, Cat(header, "\n")));
  return output;
}

Status RankOutput::Add(std::string_view bytes) {
  Status written;
  if (log_.open()) written = WriteAll(log_.fd(), path_, bytes);
  if (!written.ok()) log_.Reset();
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const size_t count = std::min({end, bytes.size(), kOutputLineBytesMax - line_.size()});
    line_ += bytes.substr(0, count);
    bytes.remove_prefix(count);
    if (count == end) {
      bytes.remove_prefix(1);
      Line();
    } else if (line_.size() == kOutputLineBytesMax) {
      Line();
    }
  }
  return written;
}

void RankOutput::Finish() {
  if (!line_.empty()) Line();
}

void RankOutput::Line() {
  if (on_line_) on_line_(line_);
  tail_.push_back(std::exchange(line_, {}));
  if (tail_.size() > kTailLines) tail_.pop_front();
}

}  // namespace dtrain
