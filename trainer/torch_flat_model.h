// Lays a LibTorch module out flat: its trainable parameters become views into the exchange's buffer, so that one pass
// updates them all. Gradients: trainer/torch_gradient_collector.h.
#pragma once
#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trainer/exchange.h"

namespace dtrain {

class FlatModel {
 public:
  // kInvalidArgument names a tensor that cannot be laid out: a trainable one that is not float32, sparse, or not on the CPU.
  static StatusOr<FlatModel> Make(std::shared_ptr<torch::nn::Module> module);

  const FlatLayout& layout() const { return layout_; }                // trainable parameters, last registered first
  const FlatLayout& buffer_layout() const { return buffer_layout_; }  // floating-point buffers
  int64_t parameter_count() const;                                    // elements of trainable and frozen parameters

  // The values that the module has now, as a state for GradientExchange::Load (step 0, no optimizer tensors).
  ExchangeState InitialState() const;
  // Parameters become views into `flat`, whose parameters hold their values already.
  void Bind(const FlatBuffers& flat);
  std::vector<torch::Tensor> trainable() const;  // in the order of the layout

  // Around each leaf of a step: buffers start from those of Begin.
  // Integer buffers (BatchNorm's count of batches) advance once a step however many leaves there are.
  void StartStep();
  void StartLeaf();
  std::span<const float> leaf_buffers() const { return live_buffers_; }  // what the leaf made of them
  void TakeIntegersBack();  // after a step that was not applied: integer buffers are those of its start
  // Once a step, after Finish, and before evaluation: the buffers of the module are those of the exchange.
  void TakeBuffers();

  // Tensors that are not exchanged but belong to the model: frozen parameters, integer buffers. By name.
  std::vector<HostTensor> OtherTensors() const;
  // kInvalidArgument names tensors that are missing or of another shape. Removes what it took from `model`.
  Status LoadOtherTensors(std::vector<HostTensor>* model);
  // Other names of tensors that are registered more than once -> the name that checkpoints keep.
  const std::map<std::string, std::string>& aliases() const { return aliases_; }

 private:
  struct Named {
    std::string name;
    torch::Tensor tensor;
  };

  explicit FlatModel(std::shared_ptr<torch::nn::Module> module) : module_(std::move(module)) {}

  std::shared_ptr<torch::nn::Module> module_;
  FlatLayout layout_, buffer_layout_;
  std::vector<Named> trainable_, buffers_, others_;  // in flat order; `others_` in order of registration
  std::vector<Named> integers_kept_;                 // what the integer tensors of others_ were at the step's start
  std::map<std::string, std::string> aliases_;
  std::vector<float> live_buffers_;  // what the module's buffers are views of
  FlatBuffers flat_;
};

// Copies `tensors` into the module's parameters and buffers of those names. kInvalidArgument lists every one that is missing,
// unknown or of another shape; then nothing was changed.
Status LoadModelTensors(torch::nn::Module& module, const std::vector<HostTensor>& tensors);

// Bytes of a dense CPU tensor as a host tensor, and back.
HostTensor ToHostTensor(const std::string& name, const torch::Tensor& tensor);
DType ToDType(torch::ScalarType type);
torch::ScalarType ToTorch(DType dtype);

}  // namespace dtrain
