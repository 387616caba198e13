#include "trainer/torch_flat_model.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/check.h"

namespace dtrain {
namespace {

TensorInfo InfoOf(const std::string& name, const torch::Tensor& tensor) {
  return {name, ToDType(tensor.scalar_type()), tensor.sizes().vec()};
}

FlatLayout LayoutOf(const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors) infos.push_back(InfoOf(name, tensor));
  return MakeFlatLayout(infos);
}

torch::Tensor ViewOf(std::span<float> flat, const FlatEntry& entry) {
  return at::from_blob(flat.data() + entry.offset, entry.info.shape, torch::kFloat32);
}

}  // namespace

DType ToDType(torch::ScalarType type) {
  switch (type) {
    case torch::kFloat32:
      return DType::kF32;
    case torch::kFloat64:
      return DType::kF64;
    case torch::kBFloat16:
      return DType::kBF16;
    case torch::kFloat16:
      return DType::kF16;
    case torch::kInt64:
      return DType::kI64;
    case torch::kInt32:
      return DType::kI32;
    case torch::kUInt8:
      return DType::kU8;
    case torch::kBool:
      return DType::kBool;
    default:
      DTRAIN_CHECK(false && "element type outside of what dtrain stores");
  }
}

torch::ScalarType ToTorch(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return torch::kFloat32;
    case DType::kF64:
      return torch::kFloat64;
    case DType::kBF16:
      return torch::kBFloat16;
    case DType::kF16:
      return torch::kFloat16;
    case DType::kI64:
      return torch::kInt64;
    case DType::kI32:
      return torch::kInt32;
    case DType::kU8:
      return torch::kUInt8;
    case DType::kBool:
      return torch::kBool;
  }
  DTRAIN_CHECK(false);
}

HostTensor ToHostTensor(const std::string& name, const torch::Tensor& tensor) {
  const torch::Tensor dense = tensor.detach().to(torch::kCPU).contiguous();
  HostTensor host{InfoOf(name, dense), {}};
  const auto* first = static_cast<const std::byte*>(dense.const_data_ptr());
  host.bytes.assign(first, first + host.info.bytes());
  return host;
}

StatusOr<FlatModel> FlatModel::Make(std::shared_ptr<torch::nn::Module> module) {
  FlatModel flat(std::move(module));
  std::map<const void*, std::string> first_name;  // by identity: C++ lists a shared tensor once for each of its names
  const auto is_first = [&](const std::string& name, const torch::Tensor& tensor) {
    const auto [entry, inserted] = first_name.emplace(tensor.unsafeGetTensorImpl(), name);
    if (!inserted) flat.aliases_[name] = entry->second;
    return inserted;
  };
  std::vector<std::pair<std::string, torch::Tensor>> trainable, buffers;
  for (const auto& item : flat.module_->named_parameters(/*recurse=*/true)) {
    if (!is_first(item.key(), item.value())) continue;
    if (!item.value().requires_grad()) {
      flat.others_.push_back({item.key(), item.value()});
      continue;
    }
    if (item.value().scalar_type() != torch::kFloat32 || !item.value().device().is_cpu() || item.value().layout() != torch::kStrided) {
      return InvalidArgument("lay out the model: ", item.key(), " is ", std::string(torch::toString(item.value().scalar_type())), " on ",
                             item.value().device().str(), "; expected a dense float32 tensor on the CPU");
    }
    trainable.emplace_back(item.key(), item.value());
  }
  for (const auto& item : flat.module_->named_buffers(/*recurse=*/true)) {
    if (!item.value().defined() || !is_first(item.key(), item.value())) continue;
    if (item.value().scalar_type() == torch::kFloat32) {
      buffers.emplace_back(item.key(), item.value());
    } else {
      flat.others_.push_back({item.key(), item.value()});
    }
  }
  if (trainable.empty()) return InvalidArgument("lay out the model: it has no trainable parameter");
  // Backward fills gradients from the last layer to the first, so this is the order in which buckets get ready.
  std::reverse(trainable.begin(), trainable.end());
  flat.layout_ = LayoutOf(trainable);
  flat.buffer_layout_ = LayoutOf(buffers);
  for (auto& [name, tensor] : trainable) flat.trainable_.push_back({name, tensor});
  for (auto& [name, tensor] : buffers) flat.buffers_.push_back({name, tensor});
  return flat;
}

int64_t FlatModel::parameter_count() const {
  int64_t count = 0;
  for (const Named& named : trainable_) count += named.tensor.numel();
  for (const Named& named : others_) count += named.tensor.is_floating_point() ? named.tensor.numel() : 0;
  return count;
}

ExchangeState FlatModel::InitialState() const {
  ExchangeState state;
  for (const Named& named : trainable_) state.model.push_back(ToHostTensor(named.name, named.tensor));
  for (const Named& named : buffers_) state.model.push_back(ToHostTensor(named.name, named.tensor));
  return state;
}

void FlatModel::Bind(const FlatBuffers& flat) {
  DTRAIN_CHECK(flat.layout.elements == layout_.elements && flat.buffer_layout.elements == buffer_layout_.elements);
  flat_ = flat;
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < trainable_.size(); ++i) trainable_[i].tensor.set_data(ViewOf(flat_.parameters, layout_.entries[i]));
  live_buffers_.assign(flat_.buffers.begin(), flat_.buffers.end());
  for (size_t i = 0; i < buffers_.size(); ++i) buffers_[i].tensor.set_data(ViewOf(live_buffers_, buffer_layout_.entries[i]));
}

void FlatModel::StartStep() {
  integers_kept_.clear();
  for (const Named& named : others_) {
    if (!named.tensor.is_floating_point()) integers_kept_.push_back({named.name, named.tensor.clone()});
  }
}

void FlatModel::StartLeaf() {
  TakeBuffers();
  TakeIntegersBack();
}

void FlatModel::TakeIntegersBack() {
  size_t kept = 0;
  const torch::NoGradGuard no_grad;
  for (Named& named : others_) {
    if (!named.tensor.is_floating_point()) named.tensor.copy_(integers_kept_[kept++].tensor);
  }
}

std::vector<torch::Tensor> FlatModel::trainable() const {
  std::vector<torch::Tensor> tensors;
  for (const Named& named : trainable_) tensors.push_back(named.tensor);
  return tensors;
}

void FlatModel::TakeBuffers() {
  if (!flat_.buffers.empty()) std::memcpy(live_buffers_.data(), flat_.buffers.data(), flat_.buffers.size_bytes());
}

std::vector<HostTensor> FlatModel::OtherTensors() const {
  std::vector<HostTensor> tensors;
  for (const Named& named : others_) tensors.push_back(ToHostTensor(named.name, named.tensor));
  return tensors;
}

Status FlatModel::LoadOtherTensors(std::vector<HostTensor>* model) {
  std::vector<std::string> problems;
  const torch::NoGradGuard no_grad;
  for (Named& named : others_) {
    const auto found = std::find_if(model->begin(), model->end(), [&](const HostTensor& tensor) { return tensor.info.name == named.name; });
    const TensorInfo expected = InfoOf(named.name, named.tensor);
    if (found == model->end()) {
      problems.push_back(Cat(named.name, ": missing"));
    } else if (found->info != expected) {
      problems.push_back(Cat(named.name, ": of another shape or element type"));
    } else {
      named.tensor.copy_(at::from_blob(found->bytes.data(), expected.shape, ToTorch(expected.dtype)));
      model->erase(found);
    }
  }
  if (problems.empty()) return OkStatus();
  return InvalidArgument("load frozen parameters and buffers: ", Join(problems, "; "));
}

Status LoadModelTensors(torch::nn::Module& module, const std::vector<HostTensor>& tensors) {
  std::map<std::string, torch::Tensor> targets;
  std::set<const void*> seen;
  for (const auto& item : module.named_parameters()) {
    if (seen.insert(item.value().unsafeGetTensorImpl()).second) targets[item.key()] = item.value();
  }
  for (const auto& item : module.named_buffers()) {
    if (item.value().defined() && seen.insert(item.value().unsafeGetTensorImpl()).second) targets[item.key()] = item.value();
  }
  std::vector<std::string> problems;
  std::vector<std::pair<torch::Tensor, const HostTensor*>> copies;
  for (const HostTensor& tensor : tensors) {
    const auto target = targets.find(tensor.info.name);
    if (target == targets.end()) {
      problems.push_back(Cat(tensor.info.name, ": unknown; the model has no such tensor"));
      continue;
    }
    if (InfoOf(tensor.info.name, target->second) != tensor.info)
      problems.push_back(Cat(tensor.info.name, ": of another shape or element type"));
    copies.emplace_back(target->second, &tensor);
    targets.erase(target);
  }
  for (const auto& [name, tensor] : targets) problems.push_back(Cat(name, ": missing"));
  if (!problems.empty()) return InvalidArgument("load the model: ", Join(problems, "; "));
  const torch::NoGradGuard no_grad;
  for (auto& [target, tensor] : copies) {
    target.copy_(at::from_blob(const_cast<std::byte*>(tensor->bytes.data()), tensor->info.shape, ToTorch(tensor->info.dtype)));
  }
  return OkStatus();
}

}  // namespace dtrain
