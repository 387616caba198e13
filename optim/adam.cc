// Adam and AdamW with decay w, as torch.optim.Adam and AdamW; after Kingma, Ba, "Adam: A Method for Stochastic
// Optimization", ICLR 2015; AMSGrad after Reddi, Kale, Kumar, "On the Convergence of Adam and Beyond", ICLR 2018; decoupled
// decay after Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. t is 1 in the first update.
//   Adam: g = scale * gradient + w p;   AdamW: g = scale * gradient, p = p (1 - lr w)
//   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2;   with AMSGrad v^ = max(v^, v), else v^ = v
//   p = p - lr / (1 - beta1^t) * m / (sqrt(v^) / sqrt(1 - beta2^t) + eps)
#include <cmath>

#include "optim/flat_optimizer.h"
#include "optim/vector_loop.h"

namespace dtrain {
namespace {

struct AdamRule {
  double beta1, beta2, eps;
  bool amsgrad, decoupled;

  std::vector<std::string> SlotNames() const {
    std::vector<std::string> names = {"exp_avg", "exp_avg_sq"};
    if (amsgrad) names.push_back("max_exp_avg_sq");
    return names;
  }
  double SlotInitial() const { return 0; }

  template <typename T>
  void Update(const UpdateScalars& scalars, const GroupOptions& group, const FlatOperands<T>& operands) const {
    const double learning_rate = scalars.learning_rate * group.lr_factor;
    const auto t = static_cast<double>(scalars.update);
    const auto scale = static_cast<T>(scalars.gradient_scale);
    const auto rate = static_cast<T>(learning_rate / (1 - std::pow(beta1, t)));
    const auto correction = static_cast<T>(std::sqrt(1 - std::pow(beta2, t)));
    const auto decay = static_cast<T>(group.weight_decay);
    const auto shrink = static_cast<T>(1 - learning_rate * group.weight_decay);
    const auto keep1 = static_cast<T>(beta1), take1 = static_cast<T>(1 - beta1);
    const auto keep2 = static_cast<T>(beta2), take2 = static_cast<T>(1 - beta2);
    const auto epsilon = static_cast<T>(eps);
    const bool has_decay = group.weight_decay != 0;
    WithConstants(
        [&]<bool kDecay, bool kDecoupledDecay, bool kAmsgrad> {
          ForEachElement(operands.count, [=, p = operands.parameters, g = operands.gradients, m = operands.slots[0], v = operands.slots[1],
                                          largest = operands.slots[2]](int64_t i) {
            T parameter = p[i];
            T gradient = g[i] * scale;
            if constexpr (kDecay) gradient += decay * parameter;
            if constexpr (kDecoupledDecay) parameter *= shrink;
            const T mean = m[i] * keep1 + take1 * gradient;
            m[i] = mean;
            T square = v[i] * keep2 + take2 * gradient * gradient;
            v[i] = square;
            if constexpr (kAmsgrad) {
              square = largest[i] > square ? largest[i] : square;  // a NaN in `square` gets through
              largest[i] = square;
            }
            p[i] = parameter - rate * mean / (std::sqrt(square) / correction + epsilon);
          });
        },
        has_decay && !decoupled, has_decay && decoupled, amsgrad);
  }
};

}  // namespace

std::unique_ptr<Optimizer> MakeAdam(const OptimizerOptions& options) {
  return std::make_unique<FlatOptimizer<AdamRule>>(
      AdamRule{options.beta1, options.beta2, options.eps, options.amsgrad, options.type == OptimizerType::kAdamW});
}

}  // namespace dtrain
