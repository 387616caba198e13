#include "paramserver/block_tree.h"

#include <algorithm>
#include <bit>

#include "base/leaf_tree.h"

namespace dtrain::ps {

std::vector<SumPart> SumParts(int64_t first, int64_t end, const std::function<double(int64_t)>& block_sum) {
  std::vector<SumPart> parts;
  while (first < end) {
    // The largest node that starts here and ends within.
    const int of_place = first == 0 ? 62 : std::countr_zero(static_cast<uint64_t>(first));
    const int level = std::min<int>(of_place, std::bit_width(static_cast<uint64_t>(end - first)) - 1);
    const int64_t count = int64_t{1} << level;
    std::vector<double> sums;
    for (int64_t block = first; block < first + count; ++block) sums.push_back(block_sum(block));
    parts.push_back({level, first >> level, TreeSum(PlanTreeSum(count), sums)});
    first += count;
  }
  return parts;
}

StatusOr<double> JoinParts(std::span<const SumPart> parts, int64_t blocks) {
  std::vector<SumPart> stack;
  int64_t next = 0;
  const auto merge = [&] {
    const double right = stack.back().sum;
    stack.pop_back();
    stack.back() = {stack.back().level + 1, stack.back().index / 2, stack.back().sum + right};
  };
  for (const SumPart& part : parts) {
    if (part.level < 0 || part.level > 40 || part.index < 0 || part.index != next >> part.level || part.index << part.level != next ||
        (int64_t{1} << part.level) > blocks - next) {
      return InvalidArgument("join the sum over ", blocks, " blocks: a part of level ", part.level, " and index ", part.index, " follows ",
                             next, " blocks");
    }
    next += int64_t{1} << part.level;
    stack.push_back(part);
    while (stack.size() >= 2 && stack.back().level == stack[stack.size() - 2].level && stack.back().index % 2 == 1) merge();
  }
  if (next != blocks || blocks < 1) return InvalidArgument("join the sum over ", blocks, " blocks: the parts cover ", next);
  while (stack.size() > 1) merge();  // what does not fill a whole tree is added from the right
  return stack.back().sum;
}

}  // namespace dtrain::ps
