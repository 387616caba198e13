#include "base/codec.h"

#include <bit>
#include <cstring>

#include "base/check.h"

namespace dtrain {

static_assert(std::endian::native == std::endian::little, "dtrain's formats are little-endian and written as they lie in memory");

void Encoder::Bytes(std::span<const std::byte> bytes) {
  DTRAIN_CHECK(bytes.size() <= UINT32_MAX);
  U32(static_cast<uint32_t>(bytes.size()));
  Raw(bytes.data(), bytes.size());
}

void Encoder::Raw(const void* data, size_t count) {
  const auto* first = static_cast<const std::byte*>(data);
  bytes_.insert(bytes_.end(), first, first + count);
}

void Decoder::Raw(void* to, size_t count) {
  if (!ok_ || rest_.size() < count) {
    ok_ = false;
    return;
  }
  std::memcpy(to, rest_.data(), count);
  rest_ = rest_.subspan(count);
}

std::span<const std::byte> Decoder::Bytes() {
  const uint32_t count = U32();
  if (!ok_ || rest_.size() < count) {
    ok_ = false;
    return {};
  }
  const auto bytes = rest_.first(count);
  rest_ = rest_.subspan(count);
  return bytes;
}

std::string Decoder::String() {
  const auto bytes = Bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace dtrain
