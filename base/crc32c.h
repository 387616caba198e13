// CRC32C (Castagnoli), as in iSCSI (RFC 3720) and in our manifests and frames. By ISA-L.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace dtrain {

// The checksum of what `previous` covers followed by `bytes`; start with 0. Crc32c("123456789") = 0xE3069283.
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t previous = 0);

}  // namespace dtrain
