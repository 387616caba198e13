#include "datasets/dataset.h"

#include "base/check.h"
#include "base/digest.h"

namespace dtrain {

StatusOr<TaskType> ParseTaskType(std::string_view name) {
  for (const TaskType task : {TaskType::kClassification, TaskType::kBinary, TaskType::kRegression}) {
    if (name == TaskTypeName(task)) return task;
  }
  return InvalidArgument("task: unknown word \"", name, "\" (expected classification, binary or regression)");
}

std::string_view TaskTypeName(TaskType task) {
  switch (task) {
    case TaskType::kClassification:
      return "classification";
    case TaskType::kBinary:
      return "binary";
    case TaskType::kRegression:
      return "regression";
  }
  DTRAIN_CHECK(false);
}

int64_t DatasetSchema::input_elements() const {
  int64_t elements = 1;
  for (const int64_t size : input_shape) elements *= size;
  return elements;
}

std::shared_ptr<const Dataset> Dataset::Normalized(const Normalization&) const { return nullptr; }

Subset::Subset(std::shared_ptr<const Dataset> whole, std::vector<int64_t> rows) : whole_(std::move(whole)) {
  for (const int64_t row : rows) DTRAIN_CHECK(row >= 0 && row < whole_->size());
  rows_ = std::make_shared<const std::vector<int64_t>>(std::move(rows));
}

Status Subset::Gather(std::span<const int64_t> indices, const AugmentContext* augment, Batch* batch) const {
  // Memory is kept from call to call. It is taken out while in use, so that a subset of a subset does not meet itself.
  thread_local std::vector<int64_t> kept;
  std::vector<int64_t> mapped = std::move(kept);
  mapped.clear();
  for (const int64_t index : indices) {
    DTRAIN_CHECK(index >= 0 && index < size());
    mapped.push_back((*rows_)[index]);
  }
  const Status status = whole_->Gather(mapped, augment, batch);
  kept = std::move(mapped);
  return status;
}

std::string Subset::fingerprint() const {
  const std::string whole = whole_->fingerprint();
  Sha256 sha;
  sha.Update(std::as_bytes(std::span(whole)));
  sha.Update(std::as_bytes(std::span(*rows_)));
  return sha.HexDigest();
}

std::shared_ptr<const Dataset> Subset::Normalized(const Normalization& normalization) const {
  auto normalized = whole_->Normalized(normalization);
  if (normalized == nullptr) return nullptr;
  return std::shared_ptr<const Dataset>(new Subset(std::move(normalized), rows_));
}

}  // namespace dtrain
