// Goal: the flat buffer's layout is the same for everybody and whatever cuts it loses nothing. Method: a few shapes
// written out, then random models checked for the properties that the header promises.
#include "base/flat_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"
#include "base/text.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;

TensorInfo Tensor(int64_t elements, DType dtype = DType::kF32) { return {"t", dtype, {elements}}; }

TEST(FlatLayout, EveryTensorBeginsOn64BytesAndBlocksNeverSpanTwo) {
  const std::vector<TensorInfo> tensors = {Tensor(3), Tensor(4096), Tensor(5000), Tensor(0), Tensor(1)};
  const FlatLayout layout = MakeFlatLayout(tensors, std::vector<int>{0, 1, 0, 2, 1});
  std::vector<int64_t> offsets;
  std::vector<int> groups;
  for (const FlatEntry& entry : layout.entries) {
    offsets.push_back(entry.offset);
    groups.push_back(entry.group);
  }
  EXPECT_THAT(offsets, ElementsAre(0, 16, 4112, 9120, 9120));
  EXPECT_THAT(groups, ElementsAre(0, 1, 0, 2, 1));
  EXPECT_EQ(layout.elements, 9136);
  EXPECT_EQ(layout.bytes(), 9136 * 4);
  EXPECT_THAT(layout.blocks, ElementsAre(ElementRange{0, 3}, ElementRange{16, 4112}, ElementRange{4112, 8208}, ElementRange{8208, 9112},
                                         ElementRange{9120, 9121}));
}

TEST(FlatLayout, AlignmentCountsBytesWhateverTheType) {
  const std::vector<TensorInfo> tensors = {Tensor(1, DType::kF64), Tensor(1, DType::kF64)};
  EXPECT_EQ(MakeFlatLayout(tensors).entries[1].offset, 8);
  const std::vector<TensorInfo> halves = {Tensor(1, DType::kBF16), Tensor(1, DType::kBF16)};
  EXPECT_EQ(MakeFlatLayout(halves).entries[1].offset, 32);
}

TEST(FlatLayout, ModelWithoutTensorsIsEmpty) {
  const FlatLayout layout = MakeFlatLayout({});
  EXPECT_EQ(layout.elements, 0);
  EXPECT_THAT(SliceByBlocks(layout, 2), ElementsAre(ElementRange{0, 0}, ElementRange{0, 0}));
}

TEST(FlatLayout, ScalarHasOneElement) {
  const std::vector<TensorInfo> tensors = {{"s", DType::kF32, {}}};
  EXPECT_THAT(MakeFlatLayout(tensors).blocks, ElementsAre(ElementRange{0, 1}));
}

FlatLayout RandomLayout(uint64_t seed) {
  Rng rng(seed, RngPurpose::kSynthetic);
  std::vector<TensorInfo> tensors;
  for (uint64_t count = 1 + rng.Below(12); count > 0; --count) {
    tensors.push_back(Tensor(static_cast<int64_t>(rng.Below(uint64_t{1} << rng.Below(17)))));
  }
  return MakeFlatLayout(tensors);
}

TEST(SliceByBlocks, SlicesCoverTheBufferCutAtBlocksAndAreBalancedWithinOneBlock) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const FlatLayout layout = RandomLayout(seed);
    for (const int count : {1, 2, 3, 4, 7, 64}) {
      const auto slices = SliceByBlocks(layout, count);
      ASSERT_EQ(slices.size(), static_cast<size_t>(count));
      int64_t next = 0;
      for (const ElementRange& slice : slices) {
        ASSERT_EQ(slice.begin, next);
        ASSERT_GE(slice.size(), 0);
        next = slice.end;
        // Cut where a block begins, so that no block belongs to two.
        const bool at_block = slice.end == layout.elements || slice.end == 0 ||
                              std::any_of(layout.blocks.begin(), layout.blocks.end(), [&](const auto& b) { return b.begin == slice.end; });
        ASSERT_TRUE(at_block) << slice.end;
        ASSERT_LE(slice.size(), layout.elements / count + 2 * (kBlockElements + 16)) << "seed " << seed << ", " << count << " slices";
      }
      ASSERT_EQ(next, layout.elements);
    }
  }
}

TEST(TensorInfo, BytesFollowShapeAndType) {
  EXPECT_EQ((TensorInfo{"a", DType::kBF16, {2, 3}}).bytes(), 12);
  EXPECT_EQ((TensorInfo{"a", DType::kI64, {}}).bytes(), 8);
  EXPECT_EQ((TensorInfo{"a", DType::kBool, {0, 5}}).bytes(), 0);
}

}  // namespace
}  // namespace dtrain
