// Small messages to bytes and back: fixed-size little-endian integers, doubles, length-prefixed strings.
// The reader checks every length against what is left, so it is safe on bytes from a peer or a file.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain {

class Encoder {
 public:
  void U8(uint8_t value) { Raw(&value, 1); }
  void U16(uint16_t value) { Raw(&value, sizeof value); }
  void U32(uint32_t value) { Raw(&value, sizeof value); }
  void U64(uint64_t value) { Raw(&value, sizeof value); }
  void I64(int64_t value) { Raw(&value, sizeof value); }
  void F64(double value) { Raw(&value, sizeof value); }
  void Bytes(std::span<const std::byte> bytes);  // fewer than 4 GiB
  void String(std::string_view text) { Bytes(std::as_bytes(std::span(text))); }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  void Raw(const void* data, size_t count);
  std::vector<std::byte> bytes_;
};

// Reads what an Encoder wrote. After the first read past the end every read gives 0 or empty and ok() is false, so a
// decoder reads all its fields and asks once.
class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> bytes) : rest_(bytes) {}
  uint8_t U8() { return Fixed<uint8_t>(); }
  uint16_t U16() { return Fixed<uint16_t>(); }
  uint32_t U32() { return Fixed<uint32_t>(); }
  uint64_t U64() { return Fixed<uint64_t>(); }
  int64_t I64() { return Fixed<int64_t>(); }
  double F64() { return Fixed<double>(); }
  std::span<const std::byte> Bytes();  // a view into what was passed
  std::string String();
  bool ok() const { return ok_; }
  bool Done() const { return ok_ && rest_.empty(); }  // all read, nothing left over

 private:
  template <typename T>
  T Fixed() {
    T value = 0;
    Raw(&value, sizeof value);
    return value;
  }
  void Raw(void* to, size_t count);
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace dtrain
