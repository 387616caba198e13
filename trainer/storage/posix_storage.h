// The machine's own files behind base/storage.h: the only Storage of production. Interrupted calls are repeated, partial
// writes finished, descriptors closed on exec. Error codes: trainer/storage/posix_error.h.
//
// An error of write or fsync sticks to its file: Linux reports a failed write-back once and then forgets it, so a second
// fsync that says OK proves nothing (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
#pragma once
#include "base/storage.h"

namespace dtrain {

// Has no state; lives as long as the program; any thread.
Storage& PosixStorage();

}  // namespace dtrain
