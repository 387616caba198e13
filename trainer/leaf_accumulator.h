// Adds up the gradients (and buffers) of a rank's leaves. In tree order a step has the same bits whatever number of ranks
// computes it; then at most log2(own leaves) - 1 extra copies of the gradient are kept. Values come range by range, as
// backward makes them, and everything that a leaf completes in the tree is added at once while the range is in the cache.
#pragma once
#include <span>
#include <vector>

#include "base/flat_layout.h"
#include "base/leaf_tree.h"

namespace dtrain {

enum class LeafOrder {
  kTree,      // the balanced tree of base/leaf_tree.h; the number of leaves is a power of two
  kSequence,  // one after the other, in place
};

class LeafAccumulator {
 public:
  // `sums` is where the result ends up; it must outlive the accumulator. What it holds before a step does not matter.
  explicit LeafAccumulator(std::span<float> sums) : sums_(sums) {}

  // Before the first leaf of a step of `leaf_count` leaves.
  void Start(int64_t leaf_count, LeafOrder order);
  void StartLeaf();
  bool last_leaf() const { return leaf_ + 1 == count_; }
  // `values` of the leaf for the elements of `range`. Every element exactly once a leaf, in any order of ranges, from one
  // thread. After the last leaf `sums` holds the sum of all.
  void Add(ElementRange range, std::span<const float> values);
  void AddZeros(ElementRange range);  // the same bits as Add of zeros

 private:
  // What happens to a range of the leaf that is open: the value goes into `to` (added to what is there, or over it), then
  // steps of the tree, each into.right += left.
  struct Merge {
    float *right, *left;
  };

  std::span<float> sums_;
  std::vector<std::vector<float>> partial_;  // a stack; kept between steps
  size_t depth_ = 0;                         // sums of complete sub-trees on the stack
  float* to_ = nullptr;
  bool over_ = true;  // the leaf's value replaces what `to_` holds
  std::vector<Merge> merges_;
  int64_t leaf_ = -1, count_ = 1;
  LeafOrder order_ = LeafOrder::kSequence;
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
