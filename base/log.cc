#include "base/log.h"

#include <cstdio>
#include <mutex>

namespace dtrain {
namespace {

void ToStandardError(LogLevel level, std::string_view message) {
  if (level < LogLevel::kWarning) return;
  std::fprintf(stderr, "%s: %.*s\n", level == LogLevel::kError ? "error" : "warning", static_cast<int>(message.size()), message.data());
}

std::mutex& Mutex() {
  static std::mutex mutex;
  return mutex;
}

LogSink& Sink() {
  static LogSink sink = ToStandardError;
  return sink;
}

}  // namespace

void SetLogSink(LogSink sink) {
  const std::lock_guard lock(Mutex());
  Sink() = std::move(sink);
}

void Log(LogLevel level, std::string_view message) {
  const std::lock_guard lock(Mutex());
  Sink()(level, message);
}

}  // namespace dtrain
