// SHA-256 and HMAC-SHA-256 (FIPS 180-4, RFC 2104), by OpenSSL: hashes of data files and parameters, proof of the job token.
#pragma once
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace dtrain {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void Update(std::span<const std::byte> bytes);
  std::string HexDigest();  // 64 lower-case digits; ends the computation

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Hex(std::span<const std::byte> bytes);

using Mac = std::array<std::byte, 32>;
Mac HmacSha256(std::string_view key, std::span<const std::byte> message);
bool EqualInConstantTime(std::span<const std::byte> a, std::span<const std::byte> b);
// From the kernel's generator; for tokens and nonces, never for training.
std::array<std::byte, 32> SecureRandom();
std::string Hex(std::span<const std::byte> bytes);

}  // namespace dtrain
