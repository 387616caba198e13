// What every exchange that holds whole parameters has in common: the flat buffers with their optimizer slots, applying
// an update to a range of them, and copying them to and from whole named tensors. Torch-free, no threads.
#pragma once
#include <memory>
#include <vector>

#include "optim/optimizer.h"
#include "trainer/exchange.h"

namespace dtrain {

class ParameterStore {
 public:
  // `slots` has one span of P elements for each of the optimizer's slots.
  ParameterStore(FlatBuffers flat, std::vector<std::span<float>> slots, std::shared_ptr<const Optimizer> optimizer,
                 std::vector<GroupOptions> groups);

  const FlatBuffers& flat() const { return flat_; }

  // One update of the elements of `range`; `gradients` has range.size() elements.
  void Apply(const UpdateScalars& scalars, ElementRange range, std::span<const float> gradients) const;

  // kDataLoss if a parameter is not finite: such a state must never replace a good checkpoint.
  StatusOr<ExchangeState> Snapshot(Step step, int64_t updates) const;

  // OK if `state` has exactly the tensors of this store (or no optimizer tensors at all).
  Status Check(const ExchangeState& state) const;
  // Copies what lies in `range` of parameters and slots. `state` was checked.
  void Place(const ExchangeState& state, ElementRange range) const;
  void PlaceBuffers(const ExchangeState& state) const;

 private:
  struct Run {  // adjacent elements of one group, padding included
    ElementRange range;
    int group;
  };

  FlatBuffers flat_;
  std::vector<std::span<float>> slots_;
  std::shared_ptr<const Optimizer> optimizer_;
  std::vector<GroupOptions> groups_;
  std::vector<Run> runs_;
};

}  // namespace dtrain
