#include "datasets/pixels.h"

#include "base/check.h"

// One body for each instruction set; the loader of the program picks. All operations are IEEE ones without fusing, so
// every body gives the same bits. Sanitizers start too early for the choice.
#if defined(DTRAIN_SANITIZED) || !defined(__x86_64__)
#define DTRAIN_CLONES
#else
#define DTRAIN_CLONES __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#endif

namespace dtrain {
namespace {

// 1 / 255 in two parts: a byte times the first is exact in float, so the sum of both products is x / 255 with its one
// rounding (for all 256 bytes, as a test checks) at a third of the time of a division.
constexpr float kHigh = 0x1.01p-8f;
constexpr float kLow = static_cast<float>(1.0 / 255.0 - 0x1.01p-8);

DTRAIN_CLONES void Scale(const uint8_t* __restrict pixels, int64_t count, float* __restrict out) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = static_cast<float>(static_cast<int32_t>(pixels[i]));
    out[i] = x * kHigh + x * kLow;
  }
}

DTRAIN_CLONES void ScaleAndNormalize(const uint8_t* __restrict pixels, int64_t count, float mean, float std, float* __restrict out) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = static_cast<float>(static_cast<int32_t>(pixels[i]));
    out[i] = (x * kHigh + x * kLow - mean) / std;
  }
}

}  // namespace

void PixelsToFloat(std::span<const uint8_t> pixels, std::span<float> out) {
  DTRAIN_CHECK(pixels.size() == out.size());
  Scale(pixels.data(), static_cast<int64_t>(pixels.size()), out.data());
}

void PixelsToFloat(std::span<const uint8_t> pixels, float mean, float std, std::span<float> out) {
  DTRAIN_CHECK(pixels.size() == out.size());
  ScaleAndNormalize(pixels.data(), static_cast<int64_t>(pixels.size()), mean, std, out.data());
}

}  // namespace dtrain
