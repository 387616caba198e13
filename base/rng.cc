#include "base/rng.h"

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace dtrain {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0], product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

Rng::Rng(uint64_t seed, RngPurpose purpose, uint64_t a, uint64_t b) {
  // The purpose is mixed into the key by one block of its own, so that streams of two purposes have unrelated keys.
  const std::array<uint32_t, 2> seed_key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const auto mixed =
      Philox4x32({static_cast<uint32_t>(purpose), static_cast<uint32_t>(a >> 32), static_cast<uint32_t>(b >> 32), 0x64747261}, seed_key);
  key_ = {mixed[0], mixed[1]};
  counter_ = {0, 0, static_cast<uint32_t>(a), static_cast<uint32_t>(b)};
}

uint32_t Rng::Next() {
  if (used_ == 4) {
    block_ = Philox4x32(counter_, key_);
    if (++counter_[0] == 0) ++counter_[1];
    used_ = 0;
  }
  return block_[used_++];
}

uint64_t Rng::Next64() {
  const uint64_t high = Next();
  return high << 32 | Next();
}

uint64_t Rng::Below(uint64_t bound) {
  DTRAIN_CHECK(bound > 0);
  using Wide = unsigned __int128;
  Wide product = static_cast<Wide>(Next64()) * bound;
  if (static_cast<uint64_t>(product) < bound) {
    const uint64_t threshold = -bound % bound;
    while (static_cast<uint64_t>(product) < threshold) product = static_cast<Wide>(Next64()) * bound;
  }
  return static_cast<uint64_t>(product >> 64);
}

float Rng::Uniform() { return static_cast<float>(Next() >> 8) * 0x1.0p-24f; }

double Rng::Normal() {
  const double u = (static_cast<double>(Next64() >> 11) + 0.5) * 0x1.0p-53;
  const double v = static_cast<double>(Next64() >> 11) * 0x1.0p-53;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

uint64_t DeriveSeed(uint64_t seed, RngPurpose purpose, uint64_t a, uint64_t b) { return Rng(seed, purpose, a, b).Next64(); }

}  // namespace dtrain
