// A small job for the tests: a table, gradients as a function of (parameters, step, leaf), and the serial run that every
// distributed one must equal bit for bit.
#pragma once
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "optim/accumulate.h"
#include "optim/block_sums.h"
#include "optim/clip.h"
#include "paramserver/shard.h"

namespace dtrain::ps {

// Tensors of a few elements, each a block and, with these chunks, a chunk of its own.
inline Table SmallTable(int tensors, int servers, int64_t elements = 16) {
  Table table{.servers = servers, .chunk_bytes = 1};
  for (int i = 0; i < tensors; ++i) table.entries.push_back({{Cat("t", i), DType::kF32, {elements}}, 0});
  return table;
}

inline std::vector<float> InitialParameters(const FlatLayout& layout) {
  std::vector<float> parameters(static_cast<size_t>(layout.elements));
  for (const ElementRange& block : layout.blocks) {
    for (int64_t i = block.begin; i < block.end; ++i)
      parameters[static_cast<size_t>(i)] = static_cast<float>(std::sin(0.37 * static_cast<double>(i)));
  }
  return parameters;
}

inline double LeafWeight(Step step, int64_t leaf) { return static_cast<double>(1 + (step + leaf) % 3); }

// The gradient of one leaf: it depends on every parameter, the step and the leaf, and on nothing else.
inline std::vector<float> LeafGradient(const FlatLayout& layout, std::span<const float> parameters, Step step, int64_t leaf) {
  std::vector<float> gradient(parameters.size());
  auto state = static_cast<uint32_t>(step * 7919 + leaf * 104'729 + 12'345);
  for (const ElementRange& block : layout.blocks) {
    for (int64_t i = block.begin; i < block.end; ++i) {
      state = state * 1'664'525U + 1'013'904'223U;
      const float noise = static_cast<float>(state >> 8) * 0x1p-24F - 0.5F;
      gradient[static_cast<size_t>(i)] = 0.3F * parameters[static_cast<size_t>(i)] + noise;
    }
  }
  return gradient;
}

// What a worker pushes for a sub-tree: the sum over its leaves in tree order.
inline std::vector<float> UnitGradient(const FlatLayout& layout, std::span<const float> parameters, Step step, const SubTree& unit) {
  std::vector<std::vector<float>> leaves;
  std::vector<const float*> operands;
  for (int64_t leaf = unit.first_leaf(); leaf < unit.leaves().end(); ++leaf) leaves.push_back(LeafGradient(layout, parameters, step, leaf));
  for (const auto& leaf : leaves) operands.push_back(leaf.data());
  std::vector<float> sum(parameters.size());
  for (size_t begin = 0; begin < sum.size(); begin += kBlockElements) {
    std::vector<const float*> at;
    for (const float* operand : operands) at.push_back(operand + begin);
    TreeSumBlock(PlanTreeSum(unit.leaf_count()), at, std::min<int64_t>(kBlockElements, static_cast<int64_t>(sum.size() - begin)),
                 sum.data() + begin);
  }
  return sum;
}

inline double UnitWeight(Step step, const SubTree& unit) {
  double weight = 0;
  for (int64_t leaf = unit.first_leaf(); leaf < unit.leaves().end(); ++leaf) weight += LeafWeight(step, leaf);
  return weight;
}

// The run of one process: parameters after `steps` steps. `skip`: steps whose gradient is not applied.
struct SerialRun {
  FlatLayout layout;
  std::vector<float> parameters;
  std::vector<std::vector<float>> slots;
  std::unique_ptr<Optimizer> optimizer;
  int64_t updates = 0;

  explicit SerialRun(const Table& table, const ShardOptions& options)
      : layout(table.layout()), parameters(InitialParameters(layout)), optimizer(*MakeOptimizer(options.optimizer)) {
    for (size_t slot = 0; slot < optimizer->slot_names().size(); ++slot) {
      slots.emplace_back(parameters.size(), static_cast<float>(optimizer->slot_initial(static_cast<int>(slot))));
    }
  }

  void Apply(const UpdateScalars& scalars, std::span<const float> gradient, const ShardOptions& options) {
    for (const ElementRange& block : layout.blocks) {
      const auto begin = static_cast<size_t>(block.begin), count = static_cast<size_t>(block.size());
      std::vector<std::span<float>> at;
      for (auto& slot : slots) at.push_back(std::span(slot).subspan(begin, count));
      optimizer->Apply(scalars, options.groups[0], std::span(parameters).subspan(begin, count), gradient.subspan(begin, count), at);
    }
  }

  void Run(Step step, const ShardOptions& options, bool skip = false) {
    const SubTree whole{static_cast<int>(std::bit_width(static_cast<uint64_t>(options.leaves)) - 1), 0};
    const std::vector<float> gradient = UnitGradient(layout, parameters, step, whole);
    const double weight = UnitWeight(step, whole);
    const double divisor = options.reduce == Reduce::kMean ? weight : 1;
    double clip = 1;
    if (options.clip_norm > 0) {
      std::vector<double> sums;
      for (const ElementRange& block : layout.blocks) {
        sums.push_back(BlockSquareSum(std::span(gradient).subspan(static_cast<size_t>(block.begin), static_cast<size_t>(block.size()))));
      }
      clip = ClipCoefficient(std::sqrt(TreeSum(PlanTreeSum(static_cast<int64_t>(sums.size())), sums)) / divisor, options.clip_norm);
    }
    if (skip) return;
    ++updates;
    Apply({.update = updates, .learning_rate = options.learning_rate(step), .gradient_scale = clip / divisor}, gradient, options);
  }
};

inline bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace dtrain::ps
