// The binary tree over the leaves (micro-batches) of a step: who owns which leaves, and in which order sums are taken.
// Sums of floats depend on their order. Because this order is a property of the number of leaves alone, a step gives
// the same bits whatever number of ranks computes it (docs/reproducibility.md).
#pragma once
#include <cstdint>
#include <vector>

#include "base/status.h"

namespace dtrain {

// Leaves [first, first + count) of a step.
struct LeafRange {
  int64_t first = 0, count = 1;

  int64_t end() const { return first + count; }
  bool operator==(const LeafRange&) const = default;
};

// A node of the tree: the 2^level leaves [index << level, (index + 1) << level).
struct SubTree {
  int level = 0;
  int64_t index = 0;

  int64_t first_leaf() const { return index << level; }
  int64_t leaf_count() const { return int64_t{1} << level; }
  LeafRange leaves() const { return {first_leaf(), leaf_count()}; }
  bool operator==(const SubTree&) const = default;
};

// What each of `ranks` ranks owns, in order of leaves: the largest sub-tree (of equals the last) is split into
// its halves until there are `ranks` (3 ranks of 8 leaves own 4, 2, 2).
// kInvalidArgument unless `leaves` is a power of two and 1 <= ranks <= leaves.
StatusOr<std::vector<SubTree>> AssignSubTrees(int64_t leaves, int ranks);

// One step of the evaluation of a sum over operands 0..n-1 in tree order, as a stack program: push operands in order;
// after operand i, `merges_after[i]` times replace the two topmost values (a below b) by a + b. Ends with one value.
struct TreeSumPlan {
  std::vector<int> merges_after;
};

// The plan for operands that are `owned`, adjacent sub-trees that together form a complete tree.
TreeSumPlan PlanTreeSum(const std::vector<SubTree>& owned);

// The plan for `count` equal operands, any count >= 1: the balanced tree that splits [lo, hi) at
// lo + (largest power of two < hi - lo). For a power of two this is the complete tree.
TreeSumPlan PlanTreeSum(int64_t count);

// Who computes which leaves, and in which order the ranks' sums are added.
struct LeafShares {
  std::vector<LeafRange> of_rank;
  TreeSumPlan sum_over_ranks;  // operands: one a rank
};

// Reproducible: by AssignSubTrees, so that the sum's bits do not depend on `ranks`. Otherwise equal shares in order;
// kInvalidArgument if `leaves` is no multiple of `ranks`.
StatusOr<LeafShares> ShareLeaves(int64_t leaves, int ranks, bool reproducible);

// Evaluates `plan` over doubles.
double TreeSum(const TreeSumPlan& plan, const std::vector<double>& operands);

}  // namespace dtrain
