// Optimizers on flat spans: one object updates a whole parameter buffer, the slice that a rank owns, or a server's
// shard, with the same bits. Torch-free; element by element, in the order of operations of torch::optim.
// Thread-safe: an optimizer holds its settings only; the state (slots) belongs to the caller.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace dtrain {

enum class OptimizerType { kSgd, kAdagrad, kRmsprop, kAdam, kAdamW };

// Names and defaults are torch::optim's; a field that a type does not use is ignored.
struct OptimizerOptions {
  OptimizerType type = OptimizerType::kSgd;
  double momentum = 0;             // SGD, RMSprop
  double dampening = 0;            // SGD
  bool nesterov = false;           // SGD; needs momentum > 0 and dampening = 0
  double beta1 = 0.9;              // Adam, AdamW
  double beta2 = 0.999;            // Adam, AdamW
  double eps = 1e-8;               // all but SGD; torch's default for Adagrad is 1e-10
  double alpha = 0.99;             // RMSprop
  bool centered = false;           // RMSprop
  bool amsgrad = false;            // Adam, AdamW
  double lr_decay = 0;             // Adagrad
  double initial_accumulator = 0;  // Adagrad
};

// What a parameter group changes. Elements of a flat buffer belong to groups by ranges (base/flat_layout.h).
struct GroupOptions {
  double lr_factor = 1;
  double weight_decay = 0;
};

// The scalars of one update, the same for every element.
struct UpdateScalars {
  int64_t update = 1;         // 1 for the first update: bias correction
  double learning_rate = 0;   // after the schedule, before the group's factor
  double gradient_scale = 1;  // multiplies each gradient once: 1 / global weight, times the clip coefficient
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // Names of the state tensors beside the parameters, as in torch's state dict: "momentum_buffer", "exp_avg", ...
  virtual const std::vector<std::string>& slot_names() const = 0;
  // What every element of slot `slot` starts from.
  virtual double slot_initial(int slot) const = 0;

  // Updates parameters in place from gradients, which stay as they are. All spans have one length and lie at the same
  // elements of their flat buffers; `slots` has one span a slot name. All elements belong to `group`.
  virtual void Apply(const UpdateScalars& scalars, const GroupOptions& group, std::span<float> parameters, std::span<const float> gradients,
                     std::span<const std::span<float>> slots) const = 0;
  virtual void Apply(const UpdateScalars& scalars, const GroupOptions& group, std::span<double> parameters,
                     std::span<const double> gradients, std::span<const std::span<double>> slots) const = 0;
};

// kInvalidArgument names the option that is out of its range, what was found and what is allowed.
StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const OptimizerOptions& options);

// "sgd", "adagrad", "rmsprop", "adam", "adamw".
StatusOr<OptimizerType> ParseOptimizerType(std::string_view name);

}  // namespace dtrain
