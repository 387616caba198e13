// The sum of one chunk over the leaves of a step, in the order of base/leaf_tree.h whatever sub-trees the leaves come in.
// What has come is one number, the next leaf: a repeat lies before it, a push before its turn behind it. After the last
// leaf memory is one accumulator; on the way it is at most one more a level of the tree.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/leaf_tree.h"

namespace dtrain::ps {

class ChunkSum {
 public:
  // `leaves` of a step, any number from 1; `elements` of the chunk.
  ChunkSum(int64_t leaves, int64_t elements) : leaves_(leaves), elements_(elements) {}

  enum class Turn { kNow, kDone, kEarly, kConflict };  // kConflict: a part of its leaves is in, a part is not
  Turn TurnOf(const SubTree& unit) const;
  // `unit` has its turn; `gradient` has `elements` elements.
  void Add(const SubTree& unit, std::span<const float> gradient);

  int64_t next_leaf() const { return next_leaf_; }
  bool complete() const { return next_leaf_ == leaves_; }
  std::span<const float> sum() const;  // complete
  void Reset();                        // for the next step; memory is kept

 private:
  void Merge();  // adds the topmost value to the one below it

  int64_t leaves_, elements_;
  int64_t next_leaf_ = 0;
  struct Partial {
    SubTree unit;
    std::vector<float> sum;
  };
  std::vector<Partial> stack_;
  std::vector<std::vector<float>> spare_;
};

}  // namespace dtrain::ps
