// Our own mistakes stop here, with file and line. Never for what a file, a peer or a user got wrong: those are a Status.
#pragma once

namespace dtrain {
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);
}  // namespace dtrain

#define DTRAIN_CHECK(condition)                              \
  do {                                                       \
    if (!(condition)) [[unlikely]]                           \
      ::dtrain::CheckFailed(#condition, __FILE__, __LINE__); \
  } while (false)
