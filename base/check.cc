#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace dtrain {

void CheckFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "dtrain: internal error at %s:%d: %s does not hold\n", file, line, condition);
  std::fflush(stderr);
  std::abort();
}

}  // namespace dtrain
