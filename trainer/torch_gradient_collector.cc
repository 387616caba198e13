#include "trainer/torch_gradient_collector.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace dtrain {

namespace {

// As the flat buffer wants it: not sparse, elements in order.
torch::Tensor Dense(torch::Tensor gradient) {
  if (!gradient.defined()) return gradient;
  if (gradient.layout() != torch::kStrided) gradient = gradient.to_dense();
  return gradient.contiguous();
}

}  // namespace

class GradientCollector::Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientCollector* collector, size_t index) : collector_(collector), index_(index) {}
  void operator()(const torch::autograd::Variable&) override { collector_->Fired(index_); }

 private:
  GradientCollector* collector_;
  size_t index_;
};

GradientCollector::GradientCollector(const FlatBuffers& flat, std::vector<Bucket> buckets, std::vector<torch::Tensor> parameters,
                                     CollectorOptions options)
    : flat_(flat),
      buckets_(std::move(buckets)),
      options_(std::move(options)),
      sum_(flat.gradients),
      parameters_of_bucket_(buckets_.size()) {
  DTRAIN_CHECK(parameters.size() == flat_.layout.entries.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    Parameter parameter{.tensor = std::move(parameters[i])};
    const ElementRange range = flat_.layout.entries[i].range();
    const auto begins_behind = [&](const Bucket& bucket) { return bucket.begin < range.end; };
    const auto ends_before = [&](const Bucket& bucket) { return bucket.end <= range.begin; };
    parameter.first_bucket = std::ranges::partition_point(buckets_, ends_before) - buckets_.begin();
    parameter.end_bucket = std::ranges::partition_point(buckets_, begins_behind) - buckets_.begin();
    for (size_t b = parameter.first_bucket; b < parameter.end_bucket; ++b) ++parameters_of_bucket_[b];
    parameter.tensor.mutable_grad() = torch::Tensor();
    torch::autograd::impl::set_post_acc_grad_hooks(parameter.tensor, std::make_unique<Hook>(this, i));
    parameters_.push_back(std::move(parameter));
  }
}

GradientCollector::~GradientCollector() {
  for (Parameter& parameter : parameters_) torch::autograd::impl::set_post_acc_grad_hooks(parameter.tensor, nullptr);
}

void GradientCollector::StartStep(int64_t leaves, LeafOrder order) {
  DTRAIN_CHECK(!in_place() || order == LeafOrder::kSequence);
  // Freed before forward, so that its activations can take their place.
  for (Parameter& parameter : parameters_) parameter.tensor.mutable_grad() = torch::Tensor();
  in_place_.assign(in_place() ? parameters_.size() : 0, nullptr);
  touched_.assign(parameters_.size(), 0);
  missing_ = parameters_of_bucket_;
  ready_.assign(buckets_.size(), false);
  sum_.Start(leaves, order);
  leaf_ = 0;
  ++steps_;
}

void GradientCollector::StartLeaf() {
  sum_.StartLeaf();
  for (Parameter& parameter : parameters_) {
    parameter.fired = 0;
    parameter.taken = false;
  }
}

void GradientCollector::Fired(size_t index) {
  Parameter& parameter = parameters_[index];
  ++parameter.fired;
  if (parameter.taken) {
    late_.push_back(index);
  } else if (parameter.expected != kUnknown && parameter.fired == parameter.expected && (!in_place() || sum_.last_leaf())) {
    Take(index);
  }
}

void GradientCollector::TakeFlat(Parameter& parameter, ElementRange range) {
  const torch::Tensor gradient = Dense(parameter.tensor.grad());
  parameter.tensor.mutable_grad() = torch::Tensor();
  if (gradient.defined()) {
    sum_.Add(range, {gradient.const_data_ptr<float>(), static_cast<size_t>(range.size())});
  } else {
    sum_.AddZeros(range);
  }
}

// Over the leaves autograd itself has added up.
void GradientCollector::TakeForeign(Parameter& parameter, size_t index, ElementRange range) {
  torch::Tensor gradient = Dense(parameter.tensor.grad());
  if (!gradient.defined()) gradient = torch::zeros_like(parameter.tensor);
  const auto* values = gradient.const_data_ptr<float>();
  in_place_[index] = values;
  for (const ElementRange part :
       {ElementRange{range.begin, std::min(range.end, flat_.kept.begin)}, ElementRange{std::max(range.begin, flat_.kept.end), range.end}}) {
    if (part.size() > 0) std::memcpy(flat_.gradient(part.begin), values + (part.begin - range.begin), part.size() * sizeof(float));
  }
  const bool some_kept = range.begin < flat_.kept.end && flat_.kept.begin < range.end;
  parameter.tensor.mutable_grad() = some_kept ? gradient : torch::Tensor();
}

void GradientCollector::Take(size_t index) {
  Parameter& parameter = parameters_[index];
  const ElementRange range = flat_.layout.entries[index].range();
  parameter.taken = true;
  if (in_place()) {
    TakeForeign(parameter, index, range);
  } else {
    TakeFlat(parameter, range);
  }
  if (!sum_.last_leaf()) return;
  for (size_t b = parameter.first_bucket; b < parameter.end_bucket; ++b) {
    if (--missing_[b] > 0 || !options_.overlap || steps_ <= kLearningSteps) continue;
    ready_[b] = true;
    options_.on_ready(static_cast<BucketId>(b));
  }
}

void GradientCollector::Learn(Parameter& parameter) const {
  if (!options_.overlap || steps_ > kLearningSteps) return;
  if (steps_ == 1 && leaf_ == 0) parameter.learned = parameter.fired;
  if (parameter.fired != parameter.learned) parameter.varies = true;
  if (steps_ == kLearningSteps && sum_.last_leaf() && !parameter.varies) parameter.expected = parameter.learned;
}

Status GradientCollector::FinishLeaf() {
  if (!late_.empty()) {
    const std::string& name = flat_.layout.entries[late_.front()].info.name;
    late_.clear();
    return WithHint(FailedPrecondition("backward: the gradient of ", name,
                                       " came once more after it was taken; in the first steps it came less often in a pass"),
                    "set strategy.overlap=false, then gradients are taken at the end of each pass");
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].taken && (!in_place() || sum_.last_leaf())) Take(i);
    Learn(parameters_[i]);
    if (parameters_[i].fired > 0) touched_[i] = 1;
  }
  ++leaf_;
  return OkStatus();
}

std::vector<BucketId> GradientCollector::RemainingBuckets() const {
  std::vector<BucketId> remaining;
  for (size_t b = 0; b < ready_.size(); ++b) {
    if (!ready_[b]) remaining.push_back(static_cast<BucketId>(b));
  }
  return remaining;
}

std::vector<std::string> GradientCollector::WithoutGradient() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < touched_.size(); ++i) {
    if (touched_[i] == 0) names.push_back(flat_.layout.entries[i].info.name);
  }
  return names;
}

}  // namespace dtrain
