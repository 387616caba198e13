#include "datasets/transform.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "base/check.h"
#include "datasets/settings.h"

namespace dtrain {
namespace {

// Shapes are (C channels, H height, W width).

class Normalize final : public Transform {
 public:
  explicit Normalize(Normalization normalization) : normalization_(std::move(normalization)) {}
  bool training_only() const override { return false; }
  const Normalization* normalization() const override { return &normalization_; }

  void Apply(std::span<const int64_t> shape, std::span<float> sample, Rng*, std::vector<float>*) const override {
    const int64_t channels = shape.empty() ? 1 : shape[0], plane = static_cast<int64_t>(sample.size()) / channels;
    for (int64_t channel = 0; channel < channels; ++channel) {
      const float mean = normalization_.mean_of(channel), std = normalization_.std_of(channel);
      for (float& x : sample.subspan(static_cast<size_t>(channel * plane), static_cast<size_t>(plane))) x = (x - mean) / std;
    }
  }

 private:
  Normalization normalization_;
};

class PadCrop final : public Transform {
 public:
  explicit PadCrop(int64_t pad) : pad_(pad) {}
  bool training_only() const override { return true; }

  void Apply(std::span<const int64_t> shape, std::span<float> sample, Rng* rng, std::vector<float>* scratch) const override {
    const int64_t height = shape[1], width = shape[2];
    const auto places = static_cast<uint64_t>(2 * pad_ + 1);
    const int64_t down = static_cast<int64_t>(rng->Below(places)) - pad_;
    const int64_t right = static_cast<int64_t>(rng->Below(places)) - pad_;
    scratch->assign(sample.begin(), sample.end());
    std::fill(sample.begin(), sample.end(), 0.0f);
    // Row y of the result is row y + down of the image, as far as that exists; columns likewise.
    const int64_t first_x = std::max<int64_t>(0, -right), end_x = std::min(width, width - right);
    if (first_x >= end_x) return;
    for (int64_t channel = 0; channel < shape[0]; ++channel) {
      for (int64_t y = std::max<int64_t>(0, -down); y < std::min(height, height - down); ++y) {
        const float* from = scratch->data() + (channel * height + y + down) * width + first_x + right;
        std::copy_n(from, end_x - first_x, sample.data() + (channel * height + y) * width + first_x);
      }
    }
  }

 private:
  int64_t pad_;
};

class Flip final : public Transform {
 public:
  explicit Flip(double probability) : probability_(probability) {}
  bool training_only() const override { return true; }

  void Apply(std::span<const int64_t> shape, std::span<float> sample, Rng* rng, std::vector<float>*) const override {
    if (static_cast<double>(rng->Uniform()) >= probability_) return;
    const int64_t width = shape[2];
    for (auto row = sample.begin(); row != sample.end(); row += width) std::reverse(row, row + width);
  }

 private:
  double probability_;
};

class Rotate final : public Transform {
 public:
  explicit Rotate(double degrees) : degrees_(degrees) {}
  bool training_only() const override { return true; }

  void Apply(std::span<const int64_t> shape, std::span<float> sample, Rng* rng, std::vector<float>* scratch) const override {
    const double angle = (2.0 * static_cast<double>(rng->Uniform()) - 1.0) * degrees_ * std::numbers::pi / 180.0;
    const double cosine = std::cos(angle), sine = std::sin(angle);
    const int64_t height = shape[1], width = shape[2];
    const double centre_y = static_cast<double>(height - 1) / 2, centre_x = static_cast<double>(width - 1) / 2;
    scratch->assign(sample.begin(), sample.end());
    float* out = sample.data();
    for (int64_t channel = 0; channel < shape[0]; ++channel) {
      const float* image = scratch->data() + channel * height * width;
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x) {
          // Each pixel of the result is looked up where the rotation takes it from.
          const double dy = static_cast<double>(y) - centre_y, dx = static_cast<double>(x) - centre_x;
          *out++ = Bilinear(image, height, width, centre_y + sine * dx + cosine * dy, centre_x + cosine * dx - sine * dy);
        }
      }
    }
  }

 private:
  static float Bilinear(const float* image, int64_t height, int64_t width, double y, double x) {
    const double top = std::floor(y), left = std::floor(x);
    const double down = y - top, right = x - left;
    const auto pixel = [&](int64_t at_y, int64_t at_x) {
      const bool inside = at_y >= 0 && at_y < height && at_x >= 0 && at_x < width;
      return inside ? static_cast<double>(image[at_y * width + at_x]) : 0.0;
    };
    const auto iy = static_cast<int64_t>(top), ix = static_cast<int64_t>(left);
    return static_cast<float>((1 - down) * ((1 - right) * pixel(iy, ix) + right * pixel(iy, ix + 1)) +
                              down * ((1 - right) * pixel(iy + 1, ix) + right * pixel(iy + 1, ix + 1)));
  }

  double degrees_;
};

Status WantImages(std::string_view where, std::string_view type, const DatasetSchema& schema) {
  if (schema.input_shape.size() == 3) return OkStatus();
  return InvalidArgument(where, ": ", type, " wants images of (channels, height, width), but samples of ", schema.name, " have ",
                         schema.input_shape.size(), schema.input_shape.size() == 1 ? " dimension" : " dimensions");
}

StatusOr<std::shared_ptr<const Transform>> MakeNormalize(const Value& settings, std::string_view where, const DatasetSchema& schema) {
  RETURN_IF_ERROR(CheckKeys(settings, where, std::vector<std::string>{"type", "mean", "std"}));
  ASSIGN_OR_RETURN(const auto mean, NumbersSetting(settings, where, "mean"));
  ASSIGN_OR_RETURN(const auto std, NumbersSetting(settings, where, "std"));
  const size_t channels = schema.input_shape.empty() ? 1 : static_cast<size_t>(schema.input_shape[0]);
  for (const auto& [key, numbers] : {std::pair("mean", &mean), std::pair("std", &std)}) {
    if (numbers->size() != 1 && numbers->size() != channels) {
      return InvalidArgument(where, ".", key, ": found ", numbers->size(), " numbers, expected 1",
                             channels == 1 ? std::string() : Cat(" or one for each of the ", channels, " channels"));
    }
  }
  Normalization normalization = {{mean.begin(), mean.end()}, {std.begin(), std.end()}};
  for (const float x : normalization.mean) {
    if (!std::isfinite(x))
      return InvalidArgument(where, ".mean: found ", settings.At("mean").ToJson(), ", expected numbers that a float can hold");
  }
  for (const float x : normalization.std) {
    if (!(x > 0 && std::isfinite(x))) {
      return InvalidArgument(where, ".std: found ", settings.At("std").ToJson(), ", expected numbers above 0 that a float can hold");
    }
  }
  return std::make_shared<const Normalize>(std::move(normalization));
}

StatusOr<std::shared_ptr<const Transform>> MakePadCrop(const Value& settings, std::string_view where, const DatasetSchema& schema) {
  RETURN_IF_ERROR(WantImages(where, "pad_crop", schema));
  RETURN_IF_ERROR(CheckKeys(settings, where, std::vector<std::string>{"type", "pad"}));
  // A window further out than the image is wide would show nothing but padding.
  ASSIGN_OR_RETURN(const int64_t pad, IntSetting(settings, where, "pad", 2, 1, std::min(schema.input_shape[1], schema.input_shape[2])));
  return std::make_shared<const PadCrop>(pad);
}

StatusOr<std::shared_ptr<const Transform>> MakeFlip(const Value& settings, std::string_view where, const DatasetSchema& schema) {
  RETURN_IF_ERROR(WantImages(where, "flip", schema));
  RETURN_IF_ERROR(CheckKeys(settings, where, std::vector<std::string>{"type", "probability"}));
  ASSIGN_OR_RETURN(const double probability, NumberSetting(settings, where, "probability", 0.5, 0, 1));
  return std::make_shared<const Flip>(probability);
}

StatusOr<std::shared_ptr<const Transform>> MakeRotate(const Value& settings, std::string_view where, const DatasetSchema& schema) {
  RETURN_IF_ERROR(WantImages(where, "rotate", schema));
  RETURN_IF_ERROR(CheckKeys(settings, where, std::vector<std::string>{"type", "degrees"}));
  ASSIGN_OR_RETURN(const double degrees, NumberSetting(settings, where, "degrees", 10, 0, 180));
  return std::make_shared<const Rotate>(degrees);
}

std::map<std::string, TransformFactory>& Factories() {
  static auto* const factories = new std::map<std::string, TransformFactory>{
      {"normalize", MakeNormalize}, {"pad_crop", MakePadCrop}, {"flip", MakeFlip}, {"rotate", MakeRotate}};
  return *factories;
}

class TransformedDataset final : public Dataset {
 public:
  TransformedDataset(std::shared_ptr<const Dataset> inner, TransformList transforms)
      : inner_(std::move(inner)), transforms_(std::move(transforms)) {}

  int64_t size() const override { return inner_->size(); }
  const DatasetSchema& schema() const override { return inner_->schema(); }
  std::string fingerprint() const override { return inner_->fingerprint(); }

  Status Gather(std::span<const int64_t> indices, const AugmentContext* augment, Batch* batch) const override {
    RETURN_IF_ERROR(inner_->Gather(indices, augment, batch));
    thread_local std::vector<float> scratch;
    const auto elements = static_cast<size_t>(schema().input_elements());
    const std::span<float> inputs = batch->inputs<float>();
    for (size_t row = 0; row < indices.size(); ++row) {
      const std::span<float> sample = inputs.subspan(row * elements, elements);
      std::optional<Rng> rng;
      if (augment != nullptr) {
        rng.emplace(augment->seed, RngPurpose::kAugment, static_cast<uint64_t>(augment->epoch), static_cast<uint64_t>(indices[row]));
      }
      for (const auto& transform : transforms_) {
        if (!transform->training_only()) {
          transform->Apply(schema().input_shape, sample, nullptr, &scratch);
        } else if (rng) {
          transform->Apply(schema().input_shape, sample, &*rng, &scratch);
        }
      }
    }
    return OkStatus();
  }

 private:
  std::shared_ptr<const Dataset> inner_;
  TransformList transforms_;
};

}  // namespace

bool RegisterTransform(std::string type, TransformFactory factory) {
  const bool is_new = Factories().emplace(std::move(type), std::move(factory)).second;
  DTRAIN_CHECK(is_new);
  return true;
}

StatusOr<TransformList> MakeTransforms(const Value& list, const DatasetSchema& schema) {
  TransformList transforms;
  if (list.is_null()) return transforms;
  if (list.if_list() == nullptr)
    return InvalidArgument("data.transforms: found ", list.ToJson(), ", expected a list of maps such as {type: flip}");
  for (const Value& settings : *list.if_list()) {
    const std::string where = Cat("data.transforms[", transforms.size(), "]");
    if (settings.if_map() == nullptr) return InvalidArgument(where, ": found ", settings.ToJson(), ", expected a map such as {type: flip}");
    if (schema.input_dtype != DType::kF32) {
      return InvalidArgument(where, ": samples of ", schema.name, " are ", SafetensorsName(schema.input_dtype), ", transforms work on F32");
    }
    ASSIGN_OR_RETURN(const std::string type, TextSetting(settings, where, "type", ""));
    const auto factory = Factories().find(type);
    if (factory == Factories().end()) {
      std::vector<std::string> known;
      for (const auto& [name, unused] : Factories()) known.push_back(name);
      const auto nearest = Nearest(type, known);
      return WithHint(InvalidArgument(where, ".type: unknown transform \"", type, "\"; known are ", Join(known, ", ")),
                      nearest ? Cat("did you mean \"", *nearest, "\"?") : "");
    }
    ASSIGN_OR_RETURN(auto transform, factory->second(settings, where, schema));
    transforms.push_back(std::move(transform));
  }
  return transforms;
}

std::shared_ptr<const Dataset> WithTransforms(std::shared_ptr<const Dataset> dataset, const TransformList& transforms) {
  auto first = transforms.begin();
  for (; first != transforms.end() && (*first)->normalization() != nullptr; ++first) {
    auto normalized = dataset->Normalized(*(*first)->normalization());
    if (normalized == nullptr) break;
    dataset = std::move(normalized);
  }
  if (first == transforms.end()) return dataset;
  return std::make_shared<const TransformedDataset>(std::move(dataset), TransformList(first, transforms.end()));
}

}  // namespace dtrain
