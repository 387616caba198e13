#include "datasets/idx.h"

#include <algorithm>

namespace dtrain {
namespace {

constexpr uint32_t kImagesMagic = 2051, kLabelsMagic = 2049;

uint32_t BigEndian32(std::span<const std::byte> bytes, size_t at) {
  uint32_t number = 0;
  for (size_t i = 0; i < 4; ++i) number = number << 8 | static_cast<uint32_t>(bytes[at + i]);
  return number;
}

Status CheckMagic(const std::string& name, std::span<const std::byte> bytes, size_t header_bytes, uint32_t magic, std::string_view what) {
  if (bytes.size() < header_bytes) {
    return DataLoss("read ", name, ": ", bytes.size(), " bytes, but the header of an idx file of ", what, " has ", header_bytes);
  }
  if (const uint32_t found = BigEndian32(bytes, 0); found != magic) {
    const std::string_view hint = found == kImagesMagic   ? "this is a file of images; were images and labels exchanged?"
                                  : found == kLabelsMagic ? "this is a file of labels; were images and labels exchanged?"
                                                          : "";
    return WithHint(InvalidArgument("read ", name, ": magic number ", found, ", expected ", magic, " (idx, ", what, ")"), hint);
  }
  return OkStatus();
}

Status CheckBytes(const std::string& name, size_t found, unsigned __int128 expected, const std::string& promise) {
  if (found == expected) return OkStatus();
  if (expected > found) {
    return DataLoss("read ", name, ": cut off, ", WithCommas(found), " bytes of data, but the header promises ", promise);
  }
  return DataLoss("read ", name, ": ", WithCommas(static_cast<int64_t>(found - static_cast<size_t>(expected))),
                  " bytes too many, the header promises ", promise);
}

std::vector<uint8_t> Copy(std::span<const std::byte> bytes) {
  const auto* first = reinterpret_cast<const uint8_t*>(bytes.data());
  return {first, first + bytes.size()};
}

}  // namespace

StatusOr<IdxImages> ParseIdxImages(const std::string& name, std::span<const std::byte> bytes) {
  constexpr size_t kHeaderBytes = 16;
  RETURN_IF_ERROR(CheckMagic(name, bytes, kHeaderBytes, kImagesMagic, "images"));
  IdxImages images = {.count = BigEndian32(bytes, 4), .height = BigEndian32(bytes, 8), .width = BigEndian32(bytes, 12)};
  if (images.count == 0 || images.height == 0 || images.width == 0) {
    return DataLoss("read ", name, ": the header promises ", images.count, " images of ", images.height, " x ", images.width,
                    ", expected at least one pixel");
  }
  const auto expected =
      static_cast<unsigned __int128>(images.count) * static_cast<uint64_t>(images.height) * static_cast<uint64_t>(images.width);
  RETURN_IF_ERROR(CheckBytes(name, bytes.size() - kHeaderBytes, expected,
                             Cat(WithCommas(images.count), " images of ", images.height, " x ", images.width)));
  images.pixels = Copy(bytes.subspan(kHeaderBytes));
  return images;
}

StatusOr<std::vector<uint8_t>> ParseIdxLabels(const std::string& name, std::span<const std::byte> bytes, int64_t classes) {
  constexpr size_t kHeaderBytes = 8;
  RETURN_IF_ERROR(CheckMagic(name, bytes, kHeaderBytes, kLabelsMagic, "labels"));
  const int64_t count = BigEndian32(bytes, 4);
  RETURN_IF_ERROR(CheckBytes(name, bytes.size() - kHeaderBytes, static_cast<unsigned __int128>(count), Cat(WithCommas(count), " labels")));
  std::vector<uint8_t> labels = Copy(bytes.subspan(kHeaderBytes));
  const auto wrong = std::find_if(labels.begin(), labels.end(), [&](uint8_t label) { return label >= classes; });
  if (wrong != labels.end()) {
    return DataLoss("read ", name, ": label ", int{*wrong}, " of sample ", wrong - labels.begin(), ", expected 0 to ", classes - 1);
  }
  return labels;
}

}  // namespace dtrain
