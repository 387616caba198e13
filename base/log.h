// One place where every library says what happened. Libraries call Log; the program decides where it goes.
// Never for errors that a function returns: those are a Status.
#pragma once
#include <functional>
#include <string_view>

namespace dtrain {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

using LogSink = std::function<void(LogLevel level, std::string_view message)>;

// Replaces the sink (default: warnings and errors to standard error, one line each). Call before other threads start.
void SetLogSink(LogSink sink);
void Log(LogLevel level, std::string_view message);  // from any thread

}  // namespace dtrain
