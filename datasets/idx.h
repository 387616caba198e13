// The idx format of MNIST (LeCun, Cortes, Burges): a big-endian header, then bytes. For unsigned bytes only: images
// (magic 2051: count, rows, columns) and labels (magic 2049: count).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace dtrain {

struct IdxImages {
  int64_t count = 0, height = 0, width = 0;
  std::vector<uint8_t> pixels;  // count * height * width, row-major
};

// Header and length of `bytes` are checked against each other: kInvalidArgument for another magic, kDataLoss if bytes
// are missing or left over. `name` is what errors call the file.
StatusOr<IdxImages> ParseIdxImages(const std::string& name, std::span<const std::byte> bytes);
// Likewise; a label outside [0, classes) is kDataLoss too.
StatusOr<std::vector<uint8_t>> ParseIdxLabels(const std::string& name, std::span<const std::byte> bytes, int64_t classes);

}  // namespace dtrain
