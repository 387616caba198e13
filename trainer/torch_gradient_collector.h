// From autograd to the exchange's flat gradient. Autograd hands over each gradient as a fresh tensor; a hook on the
// parameter takes it into the flat buffer while it is in the cache, frees it, and says when a bucket is complete, so that the
// exchange works while backward still runs. What the exchange reads in place (FlatBuffers::kept) is not copied at all.
//
// How often a parameter's gradient fires in one backward pass is learned in the first two steps, without overlap; later it is
// taken at its last expected firing. A further firing would be lost, so it is an error that says how to go on without.
#pragma once
#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

#include "trainer/exchange.h"
#include "trainer/leaf_accumulator.h"

namespace dtrain {

struct CollectorOptions {
  bool overlap = true;                                       // false: gradients are taken at the end of each leaf
  std::function<void(BucketId)> on_ready = [](BucketId) {};  // from inside backward; each bucket once a step
};

class GradientCollector {
 public:
  // `parameters` in the order of flat.layout, float32 on the CPU; hooks are set on them. `buckets` cover the layout.
  GradientCollector(const FlatBuffers& flat, std::vector<Bucket> buckets, std::vector<torch::Tensor> parameters, CollectorOptions options);
  ~GradientCollector();
  GradientCollector(const GradientCollector&) = delete;
  GradientCollector& operator=(const GradientCollector&) = delete;

  void StartStep(int64_t leaves, LeafOrder order);
  void StartLeaf();  // then backward, from this thread
  // Takes what the hooks did not. kFailedPrecondition names a parameter whose gradient came after it was taken.
  Status FinishLeaf();
  // Buckets that on_ready was not called for; after the last leaf.
  std::vector<BucketId> RemainingBuckets() const;
  // After the last leaf: for each entry whether it got a gradient in any leaf of the step; else its gradient is zero.
  std::span<const uint8_t> touched() const { return touched_; }
  std::vector<std::string> WithoutGradient() const;  // names of the others
  // For StepInput, after the last leaf: where gradients lie if the exchange reads some in place, else empty.
  std::span<const float* const> gradients_of() const { return in_place_; }

 private:
  class Hook;
  static constexpr int kUnknown = 0;  // take at the end of the leaf
  static constexpr int kLearningSteps = 2;
  struct Parameter {
    torch::Tensor tensor;
    size_t first_bucket = 0, end_bucket = 0;  // those that it lies in
    int expected = kUnknown;                  // firings a leaf
    int learned = kUnknown;                   // in the first leaf of all
    bool varies = false;                      // another leaf had another number
    int fired = 0;                            // in this leaf
    bool taken = false;                       // in this leaf
  };
  void Fired(size_t index);
  void Take(size_t index);
  void TakeFlat(Parameter& parameter, ElementRange range);                   // all of it, leaf by leaf
  void TakeForeign(Parameter& parameter, size_t index, ElementRange range);  // but what is kept; in the last leaf
  bool in_place() const { return flat_.kept.size() > 0; }
  void Learn(Parameter& parameter) const;

  FlatBuffers flat_;
  std::vector<Bucket> buckets_;
  CollectorOptions options_;
  std::vector<Parameter> parameters_;
  LeafAccumulator sum_;
  std::vector<int> parameters_of_bucket_;
  std::vector<int> missing_;  // of each bucket: parameters that the last leaf still lacks
  std::vector<bool> ready_;   // on_ready was called
  std::vector<const float*> in_place_;
  std::vector<uint8_t> touched_;
  std::vector<size_t> late_;  // fired after they were taken
  int steps_ = 0;             // begun, the open one included
  int64_t leaf_ = 0;          // of this step
};

}  // namespace dtrain
