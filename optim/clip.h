// Clipping by global norm, as torch.nn.utils.clip_grad_norm_; after Pascanu, Mikolov, Bengio, "On the difficulty of
// training recurrent neural networks", ICML 2013.
#pragma once

namespace dtrain {

// What the mean gradient of L2 norm `norm` is multiplied by so that its norm is at most `max_norm`: min(1, max_norm /
// (norm + 1e-6)). A NaN norm gives NaN, so that it is not mistaken for a short gradient.
inline double ClipCoefficient(double norm, double max_norm) {
  const double coefficient = max_norm / (norm + 1e-6);
  return coefficient > 1 ? 1 : coefficient;
}

}  // namespace dtrain
