// Small files read and written whole, through base/storage.h.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "base/storage.h"

namespace dtrain {

// kNotFound if there is none; kResourceExhausted if it has more than `bytes_max`.
StatusOr<std::string> ReadWholeFile(const Storage& storage, const std::string& path, uint64_t bytes_max = 64 << 20);

// The whole lines at the end of a file, at most about `bytes_max`; a line without its newline is left out.
StatusOr<std::string> ReadLastLines(const Storage& storage, const std::string& path, uint64_t bytes_max = 64 << 10);

// Afterwards `path` holds `text`, also after a power cut; until then what it held before: temporary file, fsync, rename,
// fsync of the folder. After an error the old contents are there.
Status ReplaceFile(Storage& storage, const std::string& path, std::string_view text);

}  // namespace dtrain
