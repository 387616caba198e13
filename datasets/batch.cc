#include "datasets/batch.h"

#include <algorithm>

#include "datasets/dataset.h"

namespace dtrain {

void Batch::Buffer::Reserve(int64_t bytes) {
  if (bytes <= capacity_bytes) return;
  constexpr int64_t kAlignment = 64;
  const int64_t rounded_bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  data.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, static_cast<size_t>(rounded_bytes))));
  DTRAIN_CHECK(data != nullptr);
  capacity_bytes = rounded_bytes;
}

void Batch::Resize(const DatasetSchema& schema, int64_t rows) {
  DTRAIN_CHECK(rows >= 0);
  rows_ = rows;
  input_info_.dtype = schema.input_dtype;
  input_info_.shape.resize(1 + schema.input_shape.size());
  input_info_.shape[0] = rows;
  std::copy(schema.input_shape.begin(), schema.input_shape.end(), input_info_.shape.begin() + 1);
  target_info_.dtype = schema.target_dtype;
  target_info_.shape.assign(1, rows);
  inputs_.Reserve(input_info_.bytes());
  targets_.Reserve(target_info_.bytes());
}

}  // namespace dtrain
