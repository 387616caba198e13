// Sums of gradients element by element: over the leaves of a rank and over ranks, in the order of base/leaf_tree.h.
// Each element is summed by itself, so the bits do not depend on how a buffer is cut.
#pragma once
#include <cstdint>
#include <span>

#include "base/leaf_tree.h"

namespace dtrain {

// right = left + right: the sum of two siblings of the tree takes the place of the right one. Equal lengths.
void AddInto(std::span<float> right, std::span<const float> left);

// out[i] = the sum of operands[0][i], operands[1][i], ... in the order of `plan`, for i in [0, count). `count` is at most
// kBlockElements; `out` overlaps no operand. Allocates nothing.
void TreeSumBlock(const TreeSumPlan& plan, std::span<const float* const> operands, int64_t count, float* out);

}  // namespace dtrain
