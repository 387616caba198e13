// What training reads: a set of samples that gives out whole rows by number. The order of the rows is the sampler's
// matter, threads are the loader's; a data set is immutable and safe to call from any thread.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/tensor_view.h"
#include "datasets/batch.h"

namespace dtrain {

enum class TaskType { kClassification, kBinary, kRegression };

// "classification", "binary", "regression". kInvalidArgument for another word.
StatusOr<TaskType> ParseTaskType(std::string_view name);
std::string_view TaskTypeName(TaskType task);

// What one sample looks like.
struct DatasetSchema {
  std::string name;  // "digits"
  TaskType task = TaskType::kClassification;
  std::vector<int64_t> input_shape;  // of one sample: (channels, height, width) or (columns)
  DType input_dtype = DType::kF32;
  DType target_dtype = DType::kI64;       // I64, a class, for classification; F32 for binary (0 or 1) and regression
  int64_t classes = 0;                    // 2 for binary, 0 for regression
  std::vector<std::string> class_names;   // one a class, where the set names them
  std::vector<std::string> column_names;  // one an input column, where the set has columns

  int64_t input_elements() const;  // of one sample
};

// What the randomness of a training sample depends on, beside its number: never on rank, thread or order.
struct AugmentContext {
  uint64_t seed = 0;
  int64_t epoch = 0;
};

// (x - mean) / std, with one entry for all channels (the first dimension of the input) or one a channel. In float.
struct Normalization {
  std::vector<float> mean, std;

  // The entries of a channel.
  float mean_of(int64_t channel) const { return mean[mean.size() == 1 ? 0 : channel]; }
  float std_of(int64_t channel) const { return std[std.size() == 1 ? 0 : channel]; }
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual const DatasetSchema& schema() const = 0;

  // Resizes `batch` to indices.size() rows and fills them in that order; repeats are fine. `augment` is null for
  // evaluation. Every index lies in [0, size()); another one is our own mistake and stops at a check.
  virtual Status Gather(std::span<const int64_t> indices, const AugmentContext* augment, Batch* batch) const = 0;

  // What the data is: 64 hexadecimal digits over its bytes or over the parameters that generate it. Equal sets on two
  // machines have equal fingerprints, a resumed run refuses another one.
  virtual std::string fingerprint() const = 0;

  // The same samples with `normalization` folded into Gather, for a set that can do so at no cost; null if it cannot.
  // Storage is shared.
  virtual std::shared_ptr<const Dataset> Normalized(const Normalization& normalization) const;
};

// Some rows of another set: row i is row rows[i] of `whole`.
class Subset final : public Dataset {
 public:
  // Every row lies in [0, whole->size()).
  Subset(std::shared_ptr<const Dataset> whole, std::vector<int64_t> rows);

  int64_t size() const override { return static_cast<int64_t>(rows_->size()); }
  const DatasetSchema& schema() const override { return whole_->schema(); }
  Status Gather(std::span<const int64_t> indices, const AugmentContext* augment, Batch* batch) const override;
  std::string fingerprint() const override;
  std::shared_ptr<const Dataset> Normalized(const Normalization& normalization) const override;

 private:
  Subset(std::shared_ptr<const Dataset> whole, std::shared_ptr<const std::vector<int64_t>> rows)
      : whole_(std::move(whole)), rows_(std::move(rows)) {}

  std::shared_ptr<const Dataset> whole_;
  std::shared_ptr<const std::vector<int64_t>> rows_;
};

}  // namespace dtrain
