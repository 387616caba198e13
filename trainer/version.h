// What this program is; part of every checkpoint and of the comparison of ranks.
#pragma once

namespace dtrain {

inline constexpr const char* kVersion = DTRAIN_VERSION;
inline constexpr const char* kCompiler = __VERSION__;

}  // namespace dtrain
