#include "datasets/images.h"

#include <algorithm>

#include "base/check.h"
#include "base/digest.h"
#include "datasets/file_bytes.h"
#include "datasets/idx.h"
#include "datasets/pixels.h"

namespace dtrain {
namespace {

// Rows of a shuffled batch lie anywhere in memory; asking for a row this much ahead hides the way to it.
constexpr size_t kRowsAhead = 2;
constexpr int64_t kCacheLineBytes = 64;

Status CheckHash(const std::string& path, const std::string& found, const std::string& expected) {
  if (expected.empty() || found == expected) return OkStatus();
  return WithHint(DataLoss("read ", path, ": sha256 of the unpacked bytes is ", found, ", expected ", expected),
                  "this is not the published file; fetch it again (scripts/get-data.sh)");
}

}  // namespace

ImageDataset::ImageDataset(DatasetSchema schema, std::vector<uint8_t> pixels, std::vector<uint8_t> labels, std::string fingerprint) {
  DTRAIN_CHECK(schema.input_shape.size() == 3);
  DTRAIN_CHECK(pixels.size() == labels.size() * static_cast<size_t>(schema.input_elements()));
  storage_ = std::make_shared<const Storage>(Storage{std::move(schema), std::move(pixels), std::move(labels), std::move(fingerprint)});
}

Status ImageDataset::Gather(std::span<const int64_t> indices, const AugmentContext*, Batch* batch) const {
  const DatasetSchema& schema = storage_->schema;
  batch->Resize(schema, static_cast<int64_t>(indices.size()));
  const int64_t channels = schema.input_shape[0], elements = schema.input_elements(), plane = elements / channels;
  const uint8_t* pixels = storage_->pixels.data();
  float* out = batch->inputs<float>().data();
  const std::span<int64_t> targets = batch->targets<int64_t>();
  for (const int64_t index : indices) DTRAIN_CHECK(index >= 0 && index < size());
  for (size_t row = 0; row < indices.size(); ++row, out += elements) {
    if (row + kRowsAhead < indices.size()) {
      const uint8_t* ahead = pixels + indices[row + kRowsAhead] * elements;
      for (int64_t at = 0; at < elements; at += kCacheLineBytes) __builtin_prefetch(ahead + at);
    }
    const uint8_t* image = pixels + indices[row] * elements;
    if (normalization_) {
      for (int64_t channel = 0; channel < channels; ++channel) {
        PixelsToFloat({image + channel * plane, static_cast<size_t>(plane)}, normalization_->mean_of(channel),
                      normalization_->std_of(channel), {out + channel * plane, static_cast<size_t>(plane)});
      }
    } else {
      PixelsToFloat({image, static_cast<size_t>(elements)}, {out, static_cast<size_t>(elements)});
    }
    targets[row] = storage_->labels[indices[row]];
  }
  return OkStatus();
}

std::shared_ptr<const Dataset> ImageDataset::Normalized(const Normalization& normalization) const {
  if (normalization_) return nullptr;
  return std::shared_ptr<const Dataset>(new ImageDataset(storage_, normalization));
}

StatusOr<std::shared_ptr<const Dataset>> OpenIdxImages(const IdxPair& files, DatasetSchema schema) {
  ASSIGN_OR_RETURN(auto images_bytes, ReadFileBytes(files.images_path));
  ASSIGN_OR_RETURN(IdxImages images, ParseIdxImages(files.images_path, images_bytes));
  const std::string images_sha256 = Sha256Hex(images_bytes);
  images_bytes = {};
  ASSIGN_OR_RETURN(const auto labels_bytes, ReadFileBytes(files.labels_path));
  ASSIGN_OR_RETURN(std::vector<uint8_t> labels, ParseIdxLabels(files.labels_path, labels_bytes, schema.classes));
  const std::string labels_sha256 = Sha256Hex(labels_bytes);
  if (images.count != static_cast<int64_t>(labels.size())) {
    return DataLoss("read ", files.labels_path, ": ", WithCommas(labels.size()), " labels, but ", files.images_path, " has ",
                    WithCommas(images.count), " images");
  }
  RETURN_IF_ERROR(CheckHash(files.images_path, images_sha256, files.images_sha256));
  RETURN_IF_ERROR(CheckHash(files.labels_path, labels_sha256, files.labels_sha256));
  schema.input_shape = {1, images.height, images.width};
  const std::string both = images_sha256 + labels_sha256;
  return std::make_shared<const ImageDataset>(std::move(schema), std::move(images.pixels), std::move(labels),
                                              Sha256Hex(std::as_bytes(std::span(both))));
}

}  // namespace dtrain
