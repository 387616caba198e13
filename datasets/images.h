// Images in memory as bytes (MNIST: 47 MB instead of 188), turned into floats as they are gathered.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "datasets/dataset.h"

namespace dtrain {

class ImageDataset final : public Dataset {
 public:
  // `pixels` holds labels.size() images of schema.input_shape (channels, height, width); labels lie in
  // [0, schema.classes). `fingerprint` is over the bytes of both.
  ImageDataset(DatasetSchema schema, std::vector<uint8_t> pixels, std::vector<uint8_t> labels, std::string fingerprint);

  int64_t size() const override { return static_cast<int64_t>(storage_->labels.size()); }
  const DatasetSchema& schema() const override { return storage_->schema; }
  // Inputs are x / 255, or (x / 255 - mean) / std after Normalized (datasets/pixels.h).
  Status Gather(std::span<const int64_t> indices, const AugmentContext* augment, Batch* batch) const override;
  std::string fingerprint() const override { return storage_->fingerprint; }
  // Null if this set is normalised already.
  std::shared_ptr<const Dataset> Normalized(const Normalization& normalization) const override;

 private:
  struct Storage {
    DatasetSchema schema;
    std::vector<uint8_t> pixels, labels;
    std::string fingerprint;
  };
  ImageDataset(std::shared_ptr<const Storage> storage, Normalization normalization)
      : storage_(std::move(storage)), normalization_(std::move(normalization)) {}

  std::shared_ptr<const Storage> storage_;
  std::optional<Normalization> normalization_;
};

// Two idx files, gzip or plain, as a set of images of one channel with schema.classes classes; the schema's input_shape is
// filled in. `expected_sha256`, where given, are the hashes of the unpacked bytes of images and labels.
// Errors of ReadFileBytes and ParseIdx*; kDataLoss if the counts or a hash differ.
struct IdxPair {
  std::string images_path, labels_path;
  std::string images_sha256, labels_sha256;  // empty: any bytes
};
StatusOr<std::shared_ptr<const Dataset>> OpenIdxImages(const IdxPair& files, DatasetSchema schema);

}  // namespace dtrain
