// Losses as sums with their weight: the trainer adds gradients of sums over leaves and ranks and divides once by the
// global weight, so a batch gives the same update however it was cut.
#pragma once
#include <torch/types.h>

#include <string>
#include <vector>

#include "base/status.h"
#include "datasets/dataset.h"

namespace dtrain {

enum class LossType { kCrossEntropy, kBinary, kMse };

struct LossOptions {
  LossType type = LossType::kCrossEntropy;
  std::vector<double> class_weights;  // C of them for cross-entropy, 2 (negative, positive) for binary; empty: all 1
};

// The loss of one batch.
struct LossSum {
  torch::Tensor sum;  // scalar, with a graph
  double weight = 0;  // samples, or the sum of their class weights; elements for MSE
};

// What evaluation counts; added exactly over batches and ranks.
struct EvaluationCounts {
  double loss_sum = 0, weight = 0;
  int64_t correct = 0, samples = 0;
};

class Loss {
 public:
  // "auto" takes the loss of the data's task: cross-entropy, binary or MSE. kInvalidArgument for a loss that does not fit
  // the data, or for another number of class weights than it has classes.
  static StatusOr<Loss> Make(const std::string& type, const DatasetSchema& schema, const std::vector<double>& class_weights);

  int64_t outputs() const { return outputs_; }  // C that a model must have

  LossType type() const { return options_.type; }
  // outputs (B, C) and targets (B) of classes for cross-entropy; outputs (B, 1) and targets (B) for the others.
  LossSum Sum(const torch::Tensor& outputs, const torch::Tensor& targets) const;
  EvaluationCounts Count(const torch::Tensor& outputs, const torch::Tensor& targets) const;

 private:
  Loss(LossOptions options, int64_t outputs);

  LossOptions options_;
  int64_t outputs_;
  torch::Tensor class_weights_;  // (C), undefined if all are 1
};

}  // namespace dtrain
