#include "trainer/leaf_accumulator.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "optim/accumulate.h"

namespace dtrain {

void LeafAccumulator::Start(int64_t leaf_count, LeafOrder order) {
  DTRAIN_CHECK(leaf_count >= 1 && (order == LeafOrder::kSequence || std::has_single_bit(static_cast<uint64_t>(leaf_count))));
  depth_ = 0;
  leaf_ = -1;
  count_ = leaf_count;
  order_ = order;
}

void LeafAccumulator::StartLeaf() {
  DTRAIN_CHECK(leaf_ + 1 < count_);
  const auto index = static_cast<uint64_t>(++leaf_);
  merges_.clear();
  if (order_ == LeafOrder::kSequence) {
    to_ = sums_.data();
    over_ = index == 0;
    return;
  }
  // Two siblings are added in one place: the right one goes where the left one was put.
  over_ = index % 2 == 0;
  if (over_) {
    const bool last_pair = leaf_ + 2 >= count_;
    if (!last_pair && depth_ == partial_.size()) partial_.emplace_back(sums_.size());
    to_ = last_pair ? sums_.data() : partial_[depth_].data();
    return;
  }
  // The pair completes `levels` levels of the tree: its sum is one of them, the others join it with sums on the stack.
  const int levels = std::countr_one(index);
  if (leaf_ + 1 == count_) {
    for (int level = 1; level < levels; ++level) merges_.push_back({sums_.data(), partial_[--depth_].data()});
    return;
  }
  ++depth_;
  for (int level = 1; level < levels; ++level) {
    --depth_;
    merges_.push_back({partial_[depth_ - 1].data(), partial_[depth_].data()});
  }
}

void LeafAccumulator::Add(ElementRange range, std::span<const float> values) {
  DTRAIN_CHECK(leaf_ >= 0 && static_cast<int64_t>(values.size()) == range.size());
  for (int64_t begin = range.begin; begin < range.end; begin += kBlockElements) {
    const auto count = static_cast<size_t>(std::min(kBlockElements, range.end - begin));
    const auto part = values.subspan(begin - range.begin, count);
    if (over_) {
      std::memcpy(to_ + begin, part.data(), part.size_bytes());
    } else {
      AddInto({to_ + begin, count}, part);
    }
    for (const Merge& merge : merges_) AddInto({merge.right + begin, count}, {merge.left + begin, count});
  }
}

void LeafAccumulator::AddZeros(ElementRange range) {
  static constexpr std::array<float, kBlockElements> kZeros = {};
  for (int64_t begin = range.begin; begin < range.end; begin += kBlockElements) {
    const int64_t count = std::min(kBlockElements, range.end - begin);
    Add({begin, begin + count}, std::span(kZeros).first(count));
  }
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
