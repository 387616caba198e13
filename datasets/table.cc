#include "datasets/table.h"

#include <algorithm>

#include "base/check.h"
#include "base/codec.h"
#include "base/digest.h"

namespace dtrain {

TableDataset::TableDataset(Table table) : table_(std::move(table)) {
  const DatasetSchema& schema = table_.schema;
  DTRAIN_CHECK(schema.input_dtype == DType::kF32);
  DTRAIN_CHECK(table_.inputs.size() == static_cast<size_t>(table_.rows() * schema.input_elements()));
  DTRAIN_CHECK(schema.target_dtype == DType::kI64 ? table_.number_targets.empty() : table_.class_targets.empty());
  // The shape is in it, so that the same numbers cut into other rows are other data.
  Encoder header;
  for (const int64_t size : schema.input_shape) header.I64(size);
  header.I64(static_cast<int64_t>(schema.target_dtype));
  Sha256 sha;
  sha.Update(header.bytes());
  sha.Update(std::as_bytes(std::span(table_.inputs)));
  sha.Update(std::as_bytes(std::span(table_.class_targets)));
  sha.Update(std::as_bytes(std::span(table_.number_targets)));
  fingerprint_ = sha.HexDigest();
}

Status TableDataset::Gather(std::span<const int64_t> indices, const AugmentContext*, Batch* batch) const {
  batch->Resize(table_.schema, static_cast<int64_t>(indices.size()));
  const int64_t elements = table_.schema.input_elements();
  float* out = batch->inputs<float>().data();
  for (size_t row = 0; row < indices.size(); ++row, out += elements) {
    const int64_t index = indices[row];
    DTRAIN_CHECK(index >= 0 && index < size());
    std::copy_n(table_.inputs.data() + index * elements, elements, out);
    if (table_.schema.target_dtype == DType::kI64) {
      batch->targets<int64_t>()[row] = table_.class_targets[index];
    } else {
      batch->targets<float>()[row] = table_.number_targets[index];
    }
  }
  return OkStatus();
}

}  // namespace dtrain
