// What happens to a sample between the data set and the model, in the order in which the configuration lists it.
// Randomness comes from (seed, epoch, sample) alone: the same sample looks the same on any rank, in any thread.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "base/status.h"
#include "base/value.h"
#include "datasets/dataset.h"

namespace dtrain {

// Immutable; safe to call from any thread.
class Transform {
 public:
  virtual ~Transform() = default;
  // True for augmentation: evaluation leaves it out.
  virtual bool training_only() const = 0;
  // Changes one sample of `shape` in place. `rng` is the sample's own and runs through all transforms of the list; null
  // unless training_only. `scratch` is memory to use at will, kept from call to call.
  virtual void Apply(std::span<const int64_t> shape, std::span<float> sample, Rng* rng, std::vector<float>* scratch) const = 0;
  // Not null if this is plain normalisation, which a data set may fold into its own work.
  virtual const Normalization* normalization() const { return nullptr; }
};

using TransformList = std::vector<std::shared_ptr<const Transform>>;

// Makes a transform for samples of `schema` from its map in the configuration ("type" is one of its keys); `where` names
// the map in errors ("data.transforms[0]"). Errors are kInvalidArgument.
using TransformFactory =
    std::function<StatusOr<std::shared_ptr<const Transform>>(const Value& settings, std::string_view where, const DatasetSchema& schema)>;

// Makes `type` known to the configuration. Before main or at its beginning, once a name.
bool RegisterTransform(std::string type, TransformFactory factory);
// At namespace scope of a user's own .cc file.
#define DTRAIN_REGISTER_TRANSFORM(type, factory) \
  [[maybe_unused]] static const bool DTRAIN_CONCAT(dtrain_transform_, __LINE__) = ::dtrain::RegisterTransform(type, factory)

// The transforms of `list`, a list of maps (or null):
//   {type: normalize, mean: 0.1307, std: 0.3081}  one number, or one a channel (the first dimension); also in evaluation
//   {type: pad_crop, pad: 2}            zeros around the image, then a window of the old size at a random place
//   {type: flip, probability: 0.5}      left becomes right
//   {type: rotate, degrees: 10}         about the centre by an angle from [-10, 10], bilinear, zeros from outside
// The last three want images (channels, height, width). kInvalidArgument for an unknown type, key or value.
StatusOr<TransformList> MakeTransforms(const Value& list, const DatasetSchema& schema);

// `dataset` with `transforms` applied to each sample that it gathers. Normalisation at the head of the list is folded into
// the set where it can do that. The sample's number, for the randomness, is its index in `dataset`.
std::shared_ptr<const Dataset> WithTransforms(std::shared_ptr<const Dataset> dataset, const TransformList& transforms);

}  // namespace dtrain
