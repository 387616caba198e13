#include "trainer/torch_loss.h"

#include <torch/nn/functional/loss.h>

namespace dtrain {

namespace F = torch::nn::functional;

StatusOr<Loss> Loss::Make(const std::string& type, const DatasetSchema& schema, const std::vector<double>& class_weights) {
  LossOptions options{.class_weights = class_weights};
  const TaskType task = schema.task;
  if (type == "cross_entropy" || (type == "auto" && task == TaskType::kClassification)) {
    options.type = LossType::kCrossEntropy;
  } else if (type == "binary" || (type == "auto" && task == TaskType::kBinary)) {
    options.type = LossType::kBinary;
  } else if (type == "mse" || type == "auto") {
    options.type = LossType::kMse;
  } else {
    return InvalidArgument("make loss '", type, "': expected auto, cross_entropy, binary or mse");
  }
  const bool fits = options.type == LossType::kCrossEntropy ? task == TaskType::kClassification && schema.classes >= 2
                    : options.type == LossType::kBinary     ? schema.classes == 2
                                                            : true;
  if (!fits) {
    return WithHint(InvalidArgument("make loss '", type, "': ", schema.name, " is a ", TaskTypeName(task), " set with ", schema.classes,
                                    " classes; expected ", options.type == LossType::kBinary ? "2 classes" : "a classification set"),
                    "leave train.loss at auto");
  }
  const int64_t weights = options.type == LossType::kMse ? 0 : schema.classes;
  if (!class_weights.empty() && static_cast<int64_t>(class_weights.size()) != weights) {
    return InvalidArgument("make loss '", type, "': train.class_weights has ", class_weights.size(), " numbers; expected ", weights);
  }
  const int64_t outputs = options.type == LossType::kCrossEntropy ? schema.classes : 1;
  return Loss(std::move(options), outputs);
}

Loss::Loss(LossOptions options, int64_t outputs) : options_(std::move(options)), outputs_(outputs) {
  if (!options_.class_weights.empty()) class_weights_ = torch::tensor(options_.class_weights, torch::kFloat32);
}

LossSum Loss::Sum(const torch::Tensor& outputs, const torch::Tensor& targets) const {
  const auto samples = static_cast<double>(targets.numel());
  if (options_.type == LossType::kCrossEntropy) {
    auto settings = F::CrossEntropyFuncOptions().reduction(torch::kSum);
    if (!class_weights_.defined()) return {F::cross_entropy(outputs, targets, settings), samples};
    const double weight = class_weights_.index_select(0, targets).sum(torch::kFloat64).item<double>();
    return {F::cross_entropy(outputs, targets, settings.weight(class_weights_)), weight};
  }
  const torch::Tensor predicted = outputs.reshape({-1}), wanted = targets.to(torch::kFloat32);
  if (options_.type == LossType::kMse) return {F::mse_loss(predicted, wanted, F::MSELossFuncOptions(torch::kSum)), samples};
  auto settings = F::BinaryCrossEntropyWithLogitsFuncOptions().reduction(torch::kSum);
  if (!class_weights_.defined()) return {F::binary_cross_entropy_with_logits(predicted, wanted, settings), samples};
  const torch::Tensor weights = class_weights_.index_select(0, targets.to(torch::kInt64));
  return {F::binary_cross_entropy_with_logits(predicted, wanted, settings.weight(weights)), weights.sum(torch::kFloat64).item<double>()};
}

EvaluationCounts Loss::Count(const torch::Tensor& outputs, const torch::Tensor& targets) const {
  const LossSum loss = Sum(outputs, targets);
  EvaluationCounts counts{.loss_sum = loss.sum.item<double>(), .weight = loss.weight, .samples = targets.size(0)};
  if (options_.type == LossType::kCrossEntropy) {
    counts.correct = outputs.argmax(1).eq(targets).sum().item<int64_t>();
  } else if (options_.type == LossType::kBinary) {
    counts.correct = outputs.reshape({-1}).gt(0).eq(targets.gt(0.5)).sum().item<int64_t>();
  }
  return counts;
}

}  // namespace dtrain
