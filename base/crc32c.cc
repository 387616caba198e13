#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace dtrain {

uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t previous) {
  uint32_t state = ~previous;
  while (!bytes.empty()) {  // crc32_iscsi takes an int length
    const size_t count = std::min<size_t>(bytes.size(), 1 << 30);
    auto* first = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes.data()));
    state = crc32_iscsi(first, static_cast<int>(count), state);
    bytes = bytes.subspan(count);
  }
  return ~state;
}

}  // namespace dtrain
