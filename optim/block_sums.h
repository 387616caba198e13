// Sums over the elements of a block (base/flat_layout.h) whose bits depend on the block alone, not on the machine's
// vector width or on which rank owns it. Added up over blocks in the tree, they give every rank the same global norm.
#pragma once
#include <span>

namespace dtrain {

// The sum of the squares of at most kBlockElements floats, in double: 16 lanes, element i in lane i mod 16, each in
// order of elements; then lane j + lane j + 8, j + 4, j + 2, j + 1. Infinite or NaN if an element is; a float's square
// does not overflow a double.
double BlockSquareSum(std::span<const float> block);

// Whether no element of any number of them is infinite or NaN.
bool AllFinite(std::span<const float> values);

}  // namespace dtrain
