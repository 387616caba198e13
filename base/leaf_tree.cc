#include "base/leaf_tree.h"

#include <bit>

#include "base/check.h"

namespace dtrain {

StatusOr<std::vector<SubTree>> AssignSubTrees(int64_t leaves, int ranks) {
  if (leaves < 1 || !std::has_single_bit(static_cast<uint64_t>(leaves))) {
    return InvalidArgument("share out ", leaves, " leaves: expected a power of two");
  }
  if (ranks < 1 || ranks > leaves) {
    return InvalidArgument("share out ", leaves, " leaves among ", ranks, " ranks: expected 1 to ", leaves, " ranks");
  }
  std::vector<SubTree> owned = {{std::countr_zero(static_cast<uint64_t>(leaves)), 0}};
  while (owned.size() < static_cast<size_t>(ranks)) {
    auto largest = owned.begin();
    for (auto tree = owned.begin(); tree != owned.end(); ++tree) {
      if (tree->level >= largest->level) largest = tree;  // of equals the last
    }
    const SubTree whole = *largest;
    *largest = {whole.level - 1, 2 * whole.index};
    owned.insert(largest + 1, {whole.level - 1, 2 * whole.index + 1});
  }
  return owned;
}

TreeSumPlan PlanTreeSum(const std::vector<SubTree>& owned) {
  TreeSumPlan plan;
  std::vector<SubTree> stack;
  for (const SubTree& operand : owned) {
    int merges = 0;
    stack.push_back(operand);
    // Two halves of one parent lie on top: the left one has an even index.
    while (stack.size() >= 2 && stack.back().level == stack[stack.size() - 2].level && stack.back().index % 2 == 1) {
      const SubTree right = stack.back();
      stack.pop_back();
      stack.back() = {right.level + 1, right.index / 2};
      ++merges;
    }
    plan.merges_after.push_back(merges);
  }
  DTRAIN_CHECK(stack.size() == 1 && stack[0].index == 0);
  return plan;
}

TreeSumPlan PlanTreeSum(int64_t count) {
  DTRAIN_CHECK(count >= 1);
  TreeSumPlan plan;
  plan.merges_after.reserve(count);
  // After i + 1 operands a binary counter holds one value a set bit; each carry is a merge. The last operand merges all.
  for (int64_t i = 0; i < count; ++i) plan.merges_after.push_back(std::countr_one(static_cast<uint64_t>(i)));
  plan.merges_after.back() = std::popcount(static_cast<uint64_t>(count - 1));
  return plan;
}

StatusOr<LeafShares> ShareLeaves(int64_t leaves, int ranks, bool reproducible) {
  LeafShares shares;
  if (reproducible) {
    ASSIGN_OR_RETURN(const auto owned, AssignSubTrees(leaves, ranks));
    for (const SubTree& sub_tree : owned) shares.of_rank.push_back(sub_tree.leaves());
    shares.sum_over_ranks = PlanTreeSum(owned);
    return shares;
  }
  if (ranks < 1 || leaves < ranks || leaves % ranks != 0) {
    return InvalidArgument("share out ", leaves, " leaves among ", ranks, " ranks: expected a multiple of the number of ranks");
  }
  const int64_t share = leaves / ranks;
  for (int rank = 0; rank < ranks; ++rank) shares.of_rank.push_back({rank * share, share});
  shares.sum_over_ranks = PlanTreeSum(ranks);
  return shares;
}

double TreeSum(const TreeSumPlan& plan, const std::vector<double>& operands) {
  DTRAIN_CHECK(plan.merges_after.size() == operands.size());
  std::vector<double> stack;
  for (size_t i = 0; i < operands.size(); ++i) {
    stack.push_back(operands[i]);
    for (int merge = 0; merge < plan.merges_after[i]; ++merge) {
      const double right = stack.back();
      stack.pop_back();
      stack.back() += right;
    }
  }
  DTRAIN_CHECK(stack.size() == 1);
  return stack.back();
}

}  // namespace dtrain
