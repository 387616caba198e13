// Bytes of pixels to floats, the inner loop of reading images.
#pragma once
#include <cstdint>
#include <span>

namespace dtrain {

// out[i] = pixels[i] / 255, rounded once. Both spans have one length.
void PixelsToFloat(std::span<const uint8_t> pixels, std::span<float> out);

// out[i] = (pixels[i] / 255 - mean) / std, each of the three operations rounded to float: bit for bit what ToTensor and
// Normalize of torchvision give.
void PixelsToFloat(std::span<const uint8_t> pixels, float mean, float std, std::span<float> out);

}  // namespace dtrain
