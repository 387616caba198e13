// Rows of numbers in memory: what CSV files and the embedded sets become.
#pragma once
#include <string>
#include <vector>

#include "datasets/dataset.h"

namespace dtrain {

struct Table {
  DatasetSchema schema;
  std::vector<float> inputs;           // rows * schema.input_elements()
  std::vector<int64_t> class_targets;  // one a row for classification, else empty
  std::vector<float> number_targets;   // one a row for binary and regression, else empty

  int64_t rows() const { return static_cast<int64_t>(class_targets.size() + number_targets.size()); }
};

class TableDataset final : public Dataset {
 public:
  // The vectors of `table` fit its schema.
  explicit TableDataset(Table table);

  int64_t size() const override { return table_.rows(); }
  const DatasetSchema& schema() const override { return table_.schema; }
  Status Gather(std::span<const int64_t> indices, const AugmentContext* augment, Batch* batch) const override;
  std::string fingerprint() const override { return fingerprint_; }

 private:
  Table table_;
  std::string fingerprint_;
};

}  // namespace dtrain
