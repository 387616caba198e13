// What all optimizers share: slots and their names, the checks of a call, float and double from one template. Inside optim/ only.
// A Rule is one file's optimizer: SlotNames(), SlotInitial() and Update<T>(scalars, group, operands), which makes one pass.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "optim/optimizer.h"

namespace dtrain {

// What one update reads and writes, all of `count` elements. No two overlap.
template <typename T>
struct FlatOperands {
  int64_t count = 0;
  T* parameters = nullptr;
  const T* gradients = nullptr;
  std::array<T*, 3> slots = {};
};

template <typename Rule>
class FlatOptimizer final : public Optimizer {
 public:
  explicit FlatOptimizer(Rule rule) : rule_(std::move(rule)), slot_names_(rule_.SlotNames()) {
    DTRAIN_CHECK(slot_names_.size() <= FlatOperands<float>{}.slots.size());
  }

  const std::vector<std::string>& slot_names() const override { return slot_names_; }

  double slot_initial(int slot) const override {
    DTRAIN_CHECK(slot >= 0 && static_cast<size_t>(slot) < slot_names_.size());
    return rule_.SlotInitial();
  }

  void Apply(const UpdateScalars& scalars, const GroupOptions& group, std::span<float> parameters, std::span<const float> gradients,
             std::span<const std::span<float>> slots) const override {
    Update<float>(scalars, group, parameters, gradients, slots);
  }
  void Apply(const UpdateScalars& scalars, const GroupOptions& group, std::span<double> parameters, std::span<const double> gradients,
             std::span<const std::span<double>> slots) const override {
    Update<double>(scalars, group, parameters, gradients, slots);
  }

 private:
  template <typename T>
  void Update(const UpdateScalars& scalars, const GroupOptions& group, std::span<T> parameters, std::span<const T> gradients,
              std::span<const std::span<T>> slots) const {
    DTRAIN_CHECK(scalars.update >= 1);
    DTRAIN_CHECK(gradients.size() == parameters.size());
    DTRAIN_CHECK(slots.size() == slot_names_.size());
    FlatOperands<T> operands{static_cast<int64_t>(parameters.size()), parameters.data(), gradients.data()};
    for (size_t i = 0; i < slots.size(); ++i) {
      DTRAIN_CHECK(slots[i].size() == parameters.size());
      operands.slots[i] = slots[i].data();
    }
    rule_.Update(scalars, group, operands);
  }

  Rule rule_;
  std::vector<std::string> slot_names_;
};

// Calls f.operator()<a, b, ...>() with the values of `a, b, ...` as constants, so that a loop has no branch on a setting.
template <bool... kKnown, typename F>
void WithConstants(const F& f) {
  f.template operator()<kKnown...>();
}
template <bool... kKnown, typename F, typename... Rest>
void WithConstants(const F& f, bool next, Rest... rest) {
  next ? WithConstants<kKnown..., true>(f, rest...) : WithConstants<kKnown..., false>(f, rest...);
}

// Each in the file of its name, its options already checked by MakeOptimizer.
std::unique_ptr<Optimizer> MakeSgd(const OptimizerOptions& options);
std::unique_ptr<Optimizer> MakeAdagrad(const OptimizerOptions& options);
std::unique_ptr<Optimizer> MakeRmsprop(const OptimizerOptions& options);
std::unique_ptr<Optimizer> MakeAdam(const OptimizerOptions& options);  // and AdamW

}  // namespace dtrain
