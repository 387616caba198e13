#include "datasets/synthetic.h"

#include <algorithm>

#include "base/check.h"
#include "base/digest.h"
#include "base/rng.h"

namespace dtrain {
namespace {

constexpr int64_t kPrototypeElementsMax = int64_t{1} << 28;  // of all classes together, 1 GB

// Mean 0, variance 1. Not normal: a logarithm and a cosine an element would be most of the work.
float Noise(Rng* rng) {
  constexpr float kHalfWidth = 1.7320508f;  // sqrt(3)
  return (2 * rng->Uniform() - 1) * kHalfWidth;
}

enum Stream : uint64_t { kPrototypes = 0, kSamples = 1 };

class SyntheticDataset final : public Dataset {
 public:
  explicit SyntheticDataset(const SyntheticOptions& options) : options_(options) {
    schema_ = {.name = "synthetic",
               .task = TaskType::kClassification,
               .input_shape = options.shape,
               .input_dtype = DType::kF32,
               .target_dtype = DType::kI64,
               .classes = options.classes};
    prototypes_.resize(static_cast<size_t>(options.classes * schema_.input_elements()));
    auto element = prototypes_.begin();
    for (int64_t c = 0; c < options.classes; ++c) {
      Rng rng(options.seed, RngPurpose::kSynthetic, kPrototypes, static_cast<uint64_t>(c));
      for (int64_t i = 0; i < schema_.input_elements(); ++i) *element++ = Noise(&rng);
    }
  }

  int64_t size() const override { return options_.samples; }
  const DatasetSchema& schema() const override { return schema_; }

  Status Gather(std::span<const int64_t> indices, const AugmentContext*, Batch* batch) const override {
    batch->Resize(schema_, static_cast<int64_t>(indices.size()));
    const int64_t elements = schema_.input_elements();
    float* out = batch->inputs<float>().data();
    const std::span<int64_t> targets = batch->targets<int64_t>();
    for (size_t row = 0; row < indices.size(); ++row) {
      DTRAIN_CHECK(indices[row] >= 0 && indices[row] < size());
      Rng rng(options_.seed, RngPurpose::kSynthetic, kSamples, static_cast<uint64_t>(options_.first_sample + indices[row]));
      targets[row] = static_cast<int64_t>(rng.Below(static_cast<uint64_t>(options_.classes)));
      const float* prototype = prototypes_.data() + targets[row] * elements;
      for (int64_t i = 0; i < elements; ++i) *out++ = prototype[i] + Noise(&rng);
    }
    return OkStatus();
  }

  std::string fingerprint() const override {
    std::string what = Cat("synthetic 1: seed ", options_.seed, ", samples ", options_.samples, " from ", options_.first_sample,
                           ", classes ", options_.classes, ", shape");
    for (const int64_t size : options_.shape) what += Cat(" ", size);
    return Sha256Hex(std::as_bytes(std::span(what)));
  }

 private:
  SyntheticOptions options_;
  DatasetSchema schema_;
  std::vector<float> prototypes_;  // (classes, elements of a sample)
};

}  // namespace

StatusOr<std::shared_ptr<const Dataset>> MakeSynthetic(const SyntheticOptions& options) {
  constexpr int64_t kSamplesMax = int64_t{1} << 48;
  if (options.samples < 1 || options.samples > kSamplesMax) {
    return InvalidArgument("data.samples: found ", options.samples, ", expected 1 to ", WithCommas(kSamplesMax));
  }
  if (options.classes < 2) return InvalidArgument("data.classes: found ", options.classes, ", expected at least 2");
  if (options.shape.empty()) return InvalidArgument("data.shape: empty, expected the sizes of one sample");
  int64_t elements = std::min(options.classes, kPrototypeElementsMax + 1);
  for (const int64_t size : options.shape) {
    if (size < 1) return InvalidArgument("data.shape: found a size of ", size, ", expected at least 1");
    if (size > kPrototypeElementsMax / elements) {
      return InvalidArgument("data.shape: too large, one sample of each class has more than ", WithCommas(kPrototypeElementsMax),
                             " elements");
    }
    elements *= size;
  }
  return std::make_shared<const SyntheticDataset>(options);
}

}  // namespace dtrain
