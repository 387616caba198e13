// Files and directories that are there after a power cut, whole, once these return OK.
#pragma once
#include <span>
#include <string>

#include "base/storage.h"

namespace dtrain::ps {

// Makes `directory` and what is missing above it, and syncs the directories that name them.
Status MakeDurableDirectory(Storage& storage, const std::string& directory);
// Writes `directory`/`name` aside and renames it, so that it is the old one or the new one. The directory is made if need be.
Status WriteDurableFile(Storage& storage, const std::string& directory, const std::string& name, std::span<const std::byte> bytes);

}  // namespace dtrain::ps
