// A shard's share in a sum over all blocks, as few numbers: the sum of the tree of base/leaf_tree.h (PlanTreeSum(count))
// is cut into the largest nodes that lie inside the shard. Whoever joins the parts of all shards gets the bits of the
// sum over the whole, however the blocks were cut. That is how the norm for clipping crosses shards.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"

namespace dtrain::ps {

// The sum over the blocks [index << level, (index + 1) << level).
struct SumPart {
  int level = 0;
  int64_t index = 0;
  double sum = 0;
  bool operator==(const SumPart&) const = default;
};

// The parts of blocks [first, end); at most two a level. `block_sum(b)` is asked once for each block, in order.
std::vector<SumPart> SumParts(int64_t first, int64_t end, const std::function<double(int64_t)>& block_sum);

// The sum over `blocks` blocks from the parts of all shards, in order of blocks: TreeSum(PlanTreeSum(blocks), ...).
// kInvalidArgument if the parts do not cover each block exactly once.
StatusOr<double> JoinParts(std::span<const SumPart> parts, int64_t blocks);

}  // namespace dtrain::ps
