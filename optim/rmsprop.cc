// RMSprop with momentum m and decay w of the parameters, as torch.optim.RMSprop; after Tieleman, Hinton, "Lecture 6.5 -
// RMSprop", Coursera, 2012; centered after Graves, "Generating Sequences With Recurrent Neural Networks", 2013.
//   g = scale * gradient + w p;   s = alpha s + (1 - alpha) g^2
//   centered: a = alpha a + (1 - alpha) g, v = s - a^2; else v = s
//   d = g / (sqrt(v) + eps);   with momentum b = m b + d, d = b;   p = p - lr d
#include <cmath>

#include "optim/flat_optimizer.h"
#include "optim/vector_loop.h"

namespace dtrain {
namespace {

struct RmspropRule {
  double momentum, alpha, eps;
  bool centered;

  std::vector<std::string> SlotNames() const {
    std::vector<std::string> names = {"square_avg"};
    if (momentum != 0) names.push_back("momentum_buffer");
    if (centered) names.push_back("grad_avg");
    return names;
  }
  double SlotInitial() const { return 0; }

  template <typename T>
  void Update(const UpdateScalars& scalars, const GroupOptions& group, const FlatOperands<T>& operands) const {
    const auto scale = static_cast<T>(scalars.gradient_scale);
    const auto rate = static_cast<T>(scalars.learning_rate * group.lr_factor);
    const auto decay = static_cast<T>(group.weight_decay);
    const auto keep = static_cast<T>(alpha), take = static_cast<T>(1 - alpha);
    const auto velocity = static_cast<T>(momentum);
    const auto epsilon = static_cast<T>(eps);
    WithConstants(
        [&]<bool kDecay, bool kMomentum, bool kCentered> {
          ForEachElement(operands.count, [=, p = operands.parameters, g = operands.gradients, s = operands.slots[0], b = operands.slots[1],
                                          a = operands.slots[kMomentum ? 2 : 1]](int64_t i) {
            T gradient = g[i] * scale;
            if constexpr (kDecay) gradient += decay * p[i];
            const T square = s[i] * keep + take * gradient * gradient;
            s[i] = square;
            T variance = square;
            if constexpr (kCentered) {
              const T mean = a[i] * keep + take * gradient;
              a[i] = mean;
              variance -= mean * mean;
            }
            T direction = gradient / (std::sqrt(variance) + epsilon);
            if constexpr (kMomentum) {
              direction += b[i] * velocity;
              b[i] = direction;
            }
            p[i] -= rate * direction;
          });
        },
        group.weight_decay != 0, momentum != 0, centered);
  }
};

}  // namespace

std::unique_ptr<Optimizer> MakeRmsprop(const OptimizerOptions& options) {
  return std::make_unique<FlatOptimizer<RmspropRule>>(RmspropRule{options.momentum, options.alpha, options.eps, options.centered});
}

}  // namespace dtrain
