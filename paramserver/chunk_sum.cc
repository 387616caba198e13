#include "paramserver/chunk_sum.h"

#include "base/check.h"
#include "optim/accumulate.h"

namespace dtrain::ps {

ChunkSum::Turn ChunkSum::TurnOf(const SubTree& unit) const {
  if (unit.leaves().end() <= next_leaf_) return Turn::kDone;
  if (unit.first_leaf() == next_leaf_) return Turn::kNow;
  return unit.first_leaf() > next_leaf_ ? Turn::kEarly : Turn::kConflict;
}

void ChunkSum::Add(const SubTree& unit, std::span<const float> gradient) {
  DTRAIN_CHECK(TurnOf(unit) == Turn::kNow && unit.leaves().end() <= leaves_ && static_cast<int64_t>(gradient.size()) == elements_);
  next_leaf_ += unit.leaf_count();
  const bool completes_parent = !stack_.empty() && stack_.back().unit.level == unit.level && unit.index % 2 == 1;
  if (completes_parent) {
    Partial& left = stack_.back();
    AddInto(left.sum, gradient);
    left.unit = {unit.level + 1, unit.index / 2};
  } else {
    Partial& partial = stack_.emplace_back(Partial{unit, {}});
    if (!spare_.empty()) {
      partial.sum = std::move(spare_.back());
      spare_.pop_back();
    }
    partial.sum.assign(gradient.begin(), gradient.end());
  }
  while (stack_.size() >= 2 && stack_.back().unit.level == stack_[stack_.size() - 2].unit.level && stack_.back().unit.index % 2 == 1)
    Merge();
  // What does not fill a whole tree is added from the right, as PlanTreeSum(count) does.
  while (complete() && stack_.size() >= 2) Merge();
}

void ChunkSum::Merge() {
  Partial& left = stack_[stack_.size() - 2];
  AddInto(left.sum, stack_.back().sum);
  left.unit = {left.unit.level + 1, left.unit.index / 2};
  spare_.push_back(std::move(stack_.back().sum));
  stack_.pop_back();
  if (spare_.size() > 1) spare_.pop_back();
}

std::span<const float> ChunkSum::sum() const {
  DTRAIN_CHECK(complete() && stack_.size() == 1);
  return stack_.back().sum;
}

void ChunkSum::Reset() {
  if (!stack_.empty()) {
    if (spare_.empty()) spare_.push_back(std::move(stack_.front().sum));
    stack_.clear();
  }
  next_leaf_ = 0;
}

}  // namespace dtrain::ps
