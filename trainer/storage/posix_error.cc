#include "trainer/storage/posix_error.h"

#include <cerrno>
#include <system_error>

namespace dtrain {
namespace {

StatusCode CodeOf(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return StatusCode::kResourceExhausted;
    case ENOENT:
      return StatusCode::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return StatusCode::kPermissionDenied;
    case EEXIST:
    case ENOTEMPTY:
      return StatusCode::kAlreadyExists;
    case ENOTDIR:
    case EISDIR:
      return StatusCode::kFailedPrecondition;
    case EIO:
      return StatusCode::kDataLoss;
    default:
      return StatusCode::kUnavailable;
  }
}

}  // namespace

Status PosixError(std::string_view what, const std::string& path, int error) {
  return MakeStatus(CodeOf(error), what, " ", path, ": ", std::generic_category().message(error), " (errno ", error, ")");
}

}  // namespace dtrain
