// Data files as bytes: whole, unpacked if they are gzip (by content, not by name). For the readers of this folder.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace dtrain {

// No file of more unpacked bytes is read: a hostile gzip of a few kilobytes can promise terabytes.
inline constexpr int64_t kFileBytesMax = int64_t{16} << 30;

// The bytes of the file at `path`, unpacked if it is gzip. kNotFound if there is none, kDataLoss if its gzip is broken
// or cut, kResourceExhausted if it holds more than `bytes_max`.
StatusOr<std::vector<std::byte>> ReadFileBytes(const std::string& path, int64_t bytes_max = kFileBytesMax);

bool IsGzip(std::span<const std::byte> bytes);

// `packed`, one or several gzip members (RFC 1952) that end where `packed` ends. `name` is what errors call it.
StatusOr<std::vector<std::byte>> GunzipBytes(const std::string& name, std::span<const std::byte> packed, int64_t bytes_max = kFileBytesMax);

}  // namespace dtrain
