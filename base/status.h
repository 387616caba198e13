// How every library of dtrain says that something went wrong: absl::Status, under our own name.
// A message says what could not be done, to which thing, what was found and expected; a hint says what to try.
// The world's faults (files, peers, configuration) are a Status; our own mistakes stop at DTRAIN_CHECK (base/check.h).
#pragma once
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/text.h"

namespace dtrain {

using Status = absl::Status;
using StatusCode = absl::StatusCode;
template <typename T>
using StatusOr = absl::StatusOr<T>;

inline Status OkStatus() { return absl::OkStatus(); }

// A status of a kind, its message put together from parts: NotFound("open ", path, ": no such file").
template <typename... Parts>
Status MakeStatus(StatusCode code, const Parts&... parts) {
  return Status(code, Cat(parts...));
}
#define DTRAIN_STATUS_KIND(Name, code)             \
  template <typename... Parts>                     \
  Status Name(const Parts&... parts) {             \
    return MakeStatus(StatusCode::code, parts...); \
  }
DTRAIN_STATUS_KIND(Aborted, kAborted)
DTRAIN_STATUS_KIND(AlreadyExists, kAlreadyExists)
DTRAIN_STATUS_KIND(Cancelled, kCancelled)
DTRAIN_STATUS_KIND(DataLoss, kDataLoss)
DTRAIN_STATUS_KIND(DeadlineExceeded, kDeadlineExceeded)
DTRAIN_STATUS_KIND(FailedPrecondition, kFailedPrecondition)
DTRAIN_STATUS_KIND(Internal, kInternal)
DTRAIN_STATUS_KIND(InvalidArgument, kInvalidArgument)
DTRAIN_STATUS_KIND(NotFound, kNotFound)
DTRAIN_STATUS_KIND(OutOfRange, kOutOfRange)
DTRAIN_STATUS_KIND(PermissionDenied, kPermissionDenied)
DTRAIN_STATUS_KIND(ResourceExhausted, kResourceExhausted)
DTRAIN_STATUS_KIND(Unavailable, kUnavailable)
DTRAIN_STATUS_KIND(Unimplemented, kUnimplemented)
#undef DTRAIN_STATUS_KIND

// The message of `status`, hint included.
std::string Message(const Status& status);

// The exit codes of every program of dtrain. Scripts rely on them: they never change meaning.
enum class ExitCode : int {
  kDone = 0,
  kUsage = 2,
  kConfiguration = 3,
  kSetUp = 4,  // preflight, data, files, devices: nothing was trained
  kRankFailed = 5,
  kDiverged = 6,
  kStopped = 75,  // saved and resumable
  kInterrupted = 130,
};

// `status` with "\n  Hint: `hint`" at its end. An OK status is returned as it is.
Status WithHint(const Status& status, std::string_view hint);

// `status` with "`what`: " before its message; code and exit code are kept.
Status Annotate(const Status& status, std::string_view what);

// `status` that ends the program with `code`; travels with the status through every layer.
Status WithExitCode(const Status& status, ExitCode code);

// The exit code attached to `status`; `otherwise` if there is none. kDone for OK.
ExitCode ExitCodeOf(const Status& status, ExitCode otherwise);

}  // namespace dtrain

#define DTRAIN_CONCAT_INNER(a, b) a##b
#define DTRAIN_CONCAT(a, b) DTRAIN_CONCAT_INNER(a, b)

// Leaves the calling function with the status of `expression` unless it is OK.
#define RETURN_IF_ERROR(expression)                                                               \
  do {                                                                                            \
    if (::dtrain::Status dtrain_status = (expression); !dtrain_status.ok()) return dtrain_status; \
  } while (false)

// ASSIGN_OR_RETURN(const auto plan, PlanBuckets(...)): the value, or leaves the calling function with the status.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_INNER(DTRAIN_CONCAT(dtrain_status_or_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_INNER(holder, declaration, expression) \
  auto holder = (expression);                                   \
  if (!holder.ok()) return holder.status();                     \
  declaration = *std::move(holder)
