// Where each tensor lies in a flat buffer of parameters, and so of gradients and optimizer slots. It depends on the
// model alone: every rank and server that passes the same tensors gets the same layout.
// Blocks are the grain of everything that must not depend on how the buffer is cut: bucket cuts, slices, sums.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/tensor_view.h"

namespace dtrain {

inline constexpr int64_t kBlockElements = 4096;
inline constexpr int64_t kAlignBytes = 64;

// Elements [begin, end) of a flat buffer.
struct ElementRange {
  int64_t begin = 0, end = 0;

  int64_t size() const { return end - begin; }
  bool operator==(const ElementRange&) const = default;
};

struct FlatEntry {
  TensorInfo info;
  int64_t offset = 0;  // first element; a multiple of kAlignBytes
  int group = 0;       // parameter group: index into the optimizer's groups

  ElementRange range() const { return {offset, offset + info.elements()}; }
};

struct FlatLayout {
  DType dtype = DType::kF32;
  std::vector<FlatEntry> entries;    // in flat order
  int64_t elements = 0;              // of the whole buffer, padding included
  std::vector<ElementRange> blocks;  // at most kBlockElements of one tensor each, in flat order

  int64_t bytes() const { return elements * ElementBytes(dtype); }
};

// `tensors` in flat order (reverse order of registration), all of one dtype; `groups` has one index a tensor, or none for
// group 0 throughout.
FlatLayout MakeFlatLayout(std::span<const TensorInfo> tensors, std::span<const int> groups = {});

// Cuts the layout into `count` slices of nearly equal size on block boundaries; a slice may be empty. Padding belongs to
// the slice of the tensor before it, so that the slices cover [0, elements).
std::vector<ElementRange> SliceByBlocks(const FlatLayout& layout, int count);

}  // namespace dtrain
