// Goal: checksums and hashes are the published functions, whole or in parts. Method: the vectors of RFC 3720, FIPS 180-4
// and RFC 4231; parts against the whole.
#include "base/digest.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/rng.h"

namespace dtrain {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Crc32c, EqualsThePublishedVectors) {
  EXPECT_EQ(Crc32c(Bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(Crc32c({}), 0u);
  // RFC 3720, appendix B.4 (which writes the bytes in the order of the wire).
  std::vector<uint8_t> bytes(32, 0);
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(bytes))), 0x8a9136aau);
  bytes.assign(32, 0xff);
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(bytes))), 0x62a8ab43u);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(bytes))), 0x46dd794eu);
  std::iota(bytes.rbegin(), bytes.rend(), uint8_t{0});
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(bytes))), 0x113fdb5cu);
  const uint8_t read_command[48] = {0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0,
                                    0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 2,    0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(read_command))), 0xd9963a56u);
}

TEST(Crc32c, PartsGiveWhatTheWholeGives) {
  std::vector<std::byte> bytes(1000);
  Rng rng(1, RngPurpose::kSynthetic);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng());
  const std::span<const std::byte> whole(bytes);
  for (size_t cut = 0; cut <= bytes.size(); cut += 7) EXPECT_EQ(Crc32c(whole.subspan(cut), Crc32c(whole.first(cut))), Crc32c(whole));
}

TEST(Sha256, EqualsThePublishedVectors) {
  EXPECT_EQ(Sha256Hex({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex(Bytes("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex(Bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Sha256Hex(Bytes(std::string(1'000'000, 'a'))), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PartsGiveWhatTheWholeGives) {
  Sha256 sha;
  const std::string text(1'000'000, 'a');
  for (size_t at = 0, part = 1; at < text.size(); at += part, part = part * 3 + 1)
    sha.Update(Bytes(std::string_view(text).substr(at, part)));
  EXPECT_EQ(sha.HexDigest(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// RFC 4231, test cases 1, 2, 3, 6 and 7.
TEST(HmacSha256, EqualsThePublishedVectors) {
  EXPECT_EQ(Hex(HmacSha256(std::string(20, '\x0b'), Bytes("Hi There"))),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(Hex(HmacSha256("Jefe", Bytes("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(Hex(HmacSha256(std::string(20, '\xaa'), Bytes(std::string(50, '\xdd')))),
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  EXPECT_EQ(Hex(HmacSha256(std::string(131, '\xaa'), Bytes("Test Using Larger Than Block-Size Key - Hash Key First"))),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  EXPECT_EQ(Hex(HmacSha256(std::string(131, '\xaa'), Bytes("This is a test using a larger than block-size key and a larger than block-size "
                                                           "data. The key needs to be hashed before being used by the HMAC algorithm."))),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST(HmacSha256, EmptyKeyAndMessageAreAllowed) {
  EXPECT_EQ(Hex(HmacSha256({}, {})), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(EqualInConstantTime, TellsEveryDifferenceOfByteAndLength) {
  const Mac mac = HmacSha256("k", Bytes("m"));
  EXPECT_TRUE(EqualInConstantTime(mac, mac));
  EXPECT_TRUE(EqualInConstantTime({}, {}));
  for (size_t i = 0; i < mac.size(); ++i) {
    Mac other = mac;
    other[i] ^= std::byte{1};
    EXPECT_FALSE(EqualInConstantTime(mac, other)) << i;
    EXPECT_FALSE(EqualInConstantTime(mac, std::span(mac).first(i)));
  }
}

TEST(SecureRandom, IsNeverTheSame) { EXPECT_NE(SecureRandom(), SecureRandom()); }

TEST(Hex, HasTwoLowerCaseDigitsAByte) {
  const std::vector<std::byte> bytes = {std::byte{0}, std::byte{0x0a}, std::byte{0xf0}, std::byte{0xff}};
  EXPECT_EQ(Hex(bytes), "000af0ff");
}

}  // namespace
}  // namespace dtrain
