// Small checkpoints for the tests, each a pure function of (step, variant), and a text that tells any two apart.
#pragma once
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/rng.h"
#include "trainer/checkpoint/checkpoint_store.h"

namespace dtrain {

template <typename T>
HostTensor SampleTensor(std::string name, DType dtype, std::vector<int64_t> shape, const std::vector<T>& elements) {
  HostTensor tensor{.info = {.name = std::move(name), .dtype = dtype, .shape = std::move(shape)}};
  tensor.bytes.resize(elements.size() * sizeof(T));
  if (!elements.empty()) std::memcpy(tensor.bytes.data(), elements.data(), tensor.bytes.size());
  return tensor;
}

// Tensors in order of name, as a load gives them. Several types and shapes, a scalar and an empty tensor among them.
inline Checkpoint SampleCheckpoint(Step step, int64_t variant = 0) {
  const auto base = static_cast<float>(step) + 1000 * static_cast<float>(variant);
  Checkpoint checkpoint{.step = step};
  checkpoint.model = {SampleTensor<int64_t>("bn.num_batches_tracked", DType::kI64, {}, {step}),
                      SampleTensor<float>("fc1.bias", DType::kF32, {2}, {base + 0.5f, -base}),
                      SampleTensor<float>("fc1.weight", DType::kF32, {2, 3}, {base, base + 1, base + 2, base + 3, base + 4, base + 5}),
                      SampleTensor<uint8_t>("mask", DType::kBool, {3}, {1, 0, static_cast<uint8_t>(step % 2)})};
  checkpoint.optimizer = {SampleTensor<float>("empty", DType::kF32, {0, 4}, {}),
                          SampleTensor<float>("momentum/fc1.bias", DType::kF32, {2}, {base * 0.1f, base * 0.2f})};
  checkpoint.model_metadata = {{"alias.head.weight", "fc1.weight"}};
  checkpoint.state.Set("epoch", step / 10);
  checkpoint.state.Set("variant", variant);
  checkpoint.state.Set("schedule.factor", 0.1);
  checkpoint.state.Set("metrics.valid_accuracy", 0.5 + 0.001 * static_cast<double>(step % 7));
  return checkpoint;
}

// The sample and one tensor of a size that no single write carries.
inline Checkpoint LargeCheckpoint(Step step, int64_t kilobytes) {
  Checkpoint checkpoint = SampleCheckpoint(step);
  Rng rng(static_cast<uint64_t>(step), RngPurpose::kSynthetic);
  std::vector<uint32_t> noise(static_cast<size_t>(kilobytes * 256));
  for (uint32_t& word : noise) word = rng();
  checkpoint.model.push_back(SampleTensor("noise", DType::kI32, {kilobytes * 256}, noise));
  return checkpoint;
}

// Everything that is in a checkpoint, so that equal texts mean equal bits.
inline std::string Describe(const Checkpoint& checkpoint) {
  std::string text = Cat("step ", checkpoint.step, "\n");
  for (const auto* tensors : {&checkpoint.model, &checkpoint.optimizer}) {
    for (const HostTensor& tensor : *tensors) {
      text += Cat(tensor.info.name, " ", SafetensorsName(tensor.info.dtype), " [");
      for (const int64_t size : tensor.info.shape) text += Cat(size, " ");
      text += Cat("] ", Hex(tensor.bytes), "\n");
    }
    text += "--\n";
  }
  for (const auto& [key, value] : checkpoint.model_metadata) text += Cat(key, "=", value, "\n");
  return Cat(text, checkpoint.state.ToJson(), "\n");
}

}  // namespace dtrain
