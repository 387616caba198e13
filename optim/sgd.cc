// Stochastic gradient descent with momentum m, dampening d, decay w, as torch.optim.SGD; momentum after Polyak, "Some
// methods of speeding up the convergence of iteration methods", 1964; Nesterov's after Sutskever, Martens, Dahl, Hinton,
// "On the importance of initialization and momentum in deep learning", ICML 2013.
//   g = scale * gradient + w p;   b = m b + (1 - d) g, in the first update b = g;   g = g + m b (Nesterov) or b;   p = p - lr g
#include "optim/flat_optimizer.h"
#include "optim/vector_loop.h"

namespace dtrain {
namespace {

struct SgdRule {
  double momentum, dampening;
  bool nesterov;

  std::vector<std::string> SlotNames() const {
    if (momentum == 0) return {};
    return {"momentum_buffer"};
  }
  double SlotInitial() const { return 0; }

  template <typename T>
  void Update(const UpdateScalars& scalars, const GroupOptions& group, const FlatOperands<T>& operands) const {
    const auto scale = static_cast<T>(scalars.gradient_scale);
    const auto rate = static_cast<T>(scalars.learning_rate * group.lr_factor);
    const auto decay = static_cast<T>(group.weight_decay);
    const auto keep = static_cast<T>(momentum);
    const auto take = static_cast<T>(scalars.update == 1 ? 1.0 : 1.0 - dampening);
    WithConstants(
        [&]<bool kDecay, bool kMomentum, bool kNesterov> {
          ForEachElement(operands.count, [=, p = operands.parameters, g = operands.gradients, b = operands.slots[0]](int64_t i) {
            T gradient = g[i] * scale;
            if constexpr (kDecay) gradient += decay * p[i];
            if constexpr (kMomentum) {
              const T buffer = b[i] * keep + take * gradient;
              b[i] = buffer;
              gradient = kNesterov ? gradient + keep * buffer : buffer;
            }
            p[i] -= rate * gradient;
          });
        },
        group.weight_decay != 0, momentum != 0, nesterov);
  }
};

}  // namespace

std::unique_ptr<Optimizer> MakeSgd(const OptimizerOptions& options) {
  return std::make_unique<FlatOptimizer<SgdRule>>(SgdRule{options.momentum, options.dampening, options.nesterov});
}

}  // namespace dtrain
