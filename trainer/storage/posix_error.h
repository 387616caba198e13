// What errno says, as a Status. For the files of this folder only.
#pragma once
#include <string>
#include <string_view>

#include "base/status.h"

namespace dtrain {

// "`what` `path`: No space left on device (errno 28)". A full disk or quota is kResourceExhausted, an absent file
// kNotFound, a forbidden one kPermissionDenied, a failing disk kDataLoss, all else kUnavailable.
Status PosixError(std::string_view what, const std::string& path, int error);

}  // namespace dtrain
