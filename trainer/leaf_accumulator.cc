#include "trainer/leaf_accumulator.h"

#include <bit>

#include "base/check.h"
#include "optim/accumulate.h"

namespace dtrain {

void LeafAccumulator::Start(int64_t leaf_count) {
  DTRAIN_CHECK(std::has_single_bit(static_cast<uint64_t>(leaf_count)));
  depth_ = 0;
  done_ = 0;
  count_ = leaf_count;
}

void LeafAccumulator::LeafDone() {
  DTRAIN_CHECK(done_ < count_);
  const int completed = std::countr_one(static_cast<uint64_t>(done_++));  // levels of the tree that this leaf completes
  if (completed == 0 && done_ < count_) return;                           // a left leaf stays in `sums` for its sibling
  for (int level = 1; level < completed; ++level) AddInto(sums_, partial_[--depth_]);
  if (done_ == count_) return;
  if (depth_ == partial_.size()) partial_.emplace_back(sums_.size());
  MoveInto(partial_[depth_++], sums_);
}

void LeafScalarSum::Add(double value) {
  stack_.push_back(value);
  for (int merge = std::countr_one(static_cast<uint64_t>(done_++)); merge > 0; --merge) {
    const double right = stack_.back();
    stack_.pop_back();
    stack_.back() += right;
  }
}

double LeafScalarSum::total() const {
  DTRAIN_CHECK(stack_.size() == 1);
  return stack_.back();
}

}  // namespace dtrain
