// Adagrad with decay w of the parameters, as torch.optim.Adagrad; after Duchi, Hazan, Singer, "Adaptive Subgradient
// Methods for Online Learning and Stochastic Optimization", JMLR 12, 2011. t is 1 in the first update.
//   g = scale * gradient + w p;   s = s + g^2;   p = p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps)
#include <cmath>

#include "optim/flat_optimizer.h"
#include "optim/vector_loop.h"

namespace dtrain {
namespace {

struct AdagradRule {
  double lr_decay, initial_accumulator, eps;

  std::vector<std::string> SlotNames() const { return {"sum"}; }
  double SlotInitial() const { return initial_accumulator; }

  template <typename T>
  void Update(const UpdateScalars& scalars, const GroupOptions& group, const FlatOperands<T>& operands) const {
    const double decayed_rate = scalars.learning_rate * group.lr_factor / (1 + static_cast<double>(scalars.update - 1) * lr_decay);
    const auto scale = static_cast<T>(scalars.gradient_scale);
    const auto rate = static_cast<T>(decayed_rate);
    const auto decay = static_cast<T>(group.weight_decay);
    const auto epsilon = static_cast<T>(eps);
    WithConstants(
        [&]<bool kDecay> {
          ForEachElement(operands.count, [=, p = operands.parameters, g = operands.gradients, s = operands.slots[0]](int64_t i) {
            T gradient = g[i] * scale;
            if constexpr (kDecay) gradient += decay * p[i];
            const T sum = s[i] + gradient * gradient;
            s[i] = sum;
            p[i] -= rate * gradient / (std::sqrt(sum) + epsilon);
          });
        },
        group.weight_decay != 0);
  }
};

}  // namespace

std::unique_ptr<Optimizer> MakeAdagrad(const OptimizerOptions& options) {
  return std::make_unique<FlatOptimizer<AdagradRule>>(AdagradRule{options.lr_decay, options.initial_accumulator, options.eps});
}

}  // namespace dtrain
