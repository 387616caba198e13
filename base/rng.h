// Counter-based random numbers: the n-th number of a stream is a pure function of (key, counter), so any rank can make
// any sample's randomness without having made the ones before it.
// Philox 4x32-10 after Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
#pragma once
#include <array>
#include <cstdint>

namespace dtrain {

// One block of Philox 4x32-10: 128 random bits for a counter under a key. Equals Random123's philox4x32 with 10 rounds.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// What a stream is for; two purposes with the same seed never share numbers.
enum class RngPurpose : uint32_t {
  kShuffle = 1,
  kAugment = 2,
  kLeaf = 3,  // seeds of a model's own randomness (dropout), one a (step, leaf)
  kSynthetic = 4,
  kSplit = 5,
  kInitialise = 6,
};

// The stream named (seed, purpose, a, b); a and b are e.g. epoch and sample. Their low halves are part of the counter, so
// streams of one key never overlap; their high halves, the purpose and the seed make the key. A stream is 2^66 numbers long.
class Rng {
 public:
  using result_type = uint32_t;

  Rng(uint64_t seed, RngPurpose purpose, uint64_t a = 0, uint64_t b = 0);

  uint32_t operator()() { return Next(); }
  static constexpr uint32_t min() { return 0; }
  static constexpr uint32_t max() { return UINT32_MAX; }

  uint32_t Next();
  uint64_t Next64();
  // Uniform in [0, bound), without bias (Lemire, "Fast Random Integer Generation in an Interval", 2019). bound > 0.
  uint64_t Below(uint64_t bound);
  // Uniform in [0, 1), 24 bits.
  float Uniform();
  // Standard normal by Box-Muller.
  double Normal();

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_ = {};
  int used_ = 4;
};

// One 64-bit seed for (seed, purpose, a, b): what a generator that is not ours is seeded with.
uint64_t DeriveSeed(uint64_t seed, RngPurpose purpose, uint64_t a = 0, uint64_t b = 0);

}  // namespace dtrain
