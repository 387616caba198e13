// Adds up the gradients (and buffers) of a rank's leaves in tree order, so that a step has the same bits whatever number
// of ranks computes it. The left of two sibling leaves is added by autograd itself, which accumulates into the gradient
// buffer; only the levels above cost a pass. Keeps at most log2(own leaves) - 1 extra copies of the gradient.
#pragma once
#include <span>
#include <vector>

#include "base/leaf_tree.h"

namespace dtrain {

class LeafAccumulator {
 public:
  // `sums` is where backward accumulates and where the result ends up; it must outlive the accumulator.
  explicit LeafAccumulator(std::span<float> sums) : sums_(sums) {}

  // Before the first leaf of a step of `leaf_count` leaves, a power of two. The caller has cleared `sums`.
  void Start(int64_t leaf_count);
  // After each leaf, whose gradient was added to `sums`. After the last one `sums` holds the sum of all.
  void LeafDone();

 private:
  std::span<float> sums_;
  std::vector<std::vector<float>> partial_;  // a stack; kept between steps
  size_t depth_ = 0;
  int64_t done_ = 0, count_ = 1;
};

// Sums of one double per leaf in the same tree: weights and losses.
class LeafScalarSum {
 public:
  void Start() { stack_.clear(), done_ = 0; }
  void Add(double value);
  double total() const;  // after a power of two of leaves

 private:
  std::vector<double> stack_;
  int64_t done_ = 0;
};

}  // namespace dtrain
