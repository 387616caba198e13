#include "base/flat_layout.h"

#include <algorithm>

#include "base/check.h"

namespace dtrain {

FlatLayout MakeFlatLayout(std::span<const TensorInfo> tensors, std::span<const int> groups) {
  DTRAIN_CHECK(groups.empty() || groups.size() == tensors.size());
  FlatLayout layout;
  if (!tensors.empty()) layout.dtype = tensors.front().dtype;
  const int64_t align = kAlignBytes / ElementBytes(layout.dtype);
  for (size_t i = 0; i < tensors.size(); ++i) {
    DTRAIN_CHECK(tensors[i].dtype == layout.dtype);
    const int64_t elements = tensors[i].elements();
    layout.entries.push_back({tensors[i], layout.elements, groups.empty() ? 0 : groups[i]});
    for (int64_t begin = 0; begin < elements; begin += kBlockElements) {
      layout.blocks.push_back({layout.elements + begin, layout.elements + std::min(begin + kBlockElements, elements)});
    }
    layout.elements += (elements + align - 1) / align * align;
  }
  return layout;
}

std::vector<ElementRange> SliceByBlocks(const FlatLayout& layout, int count) {
  DTRAIN_CHECK(count > 0);
  std::vector<ElementRange> slices(count);
  size_t block = 0;
  int64_t begin = 0;
  for (int slice = 0; slice < count; ++slice) {
    const int64_t wanted_end = layout.elements * (slice + 1) / count;
    while (block < layout.blocks.size() && layout.blocks[block].begin < wanted_end) ++block;
    const int64_t end = slice + 1 == count || block == layout.blocks.size() ? layout.elements : layout.blocks[block].begin;
    slices[slice] = {begin, std::max(begin, end)};
    begin = slices[slice].end;
  }
  return slices;
}

}  // namespace dtrain
