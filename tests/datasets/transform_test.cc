// Goal: pixels reach the model as documented, and augmentation is what its name says. Method: small images worked out by
// hand; every value that a seeded draw can give is collected and compared with the complete list of what may come out.
#include "datasets/transform.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <map>
#include <set>

#include "datasets/images.h"
#include "datasets/pixels.h"
#include "datasets/synthetic.h"
#include "datasets/table.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

Value Settings(Value::Map map) { return Value::List{std::move(map)}; }

// Images given as floats, one channel.
std::shared_ptr<const Dataset> FloatImages(int64_t height, int64_t width, std::vector<float> pixels, int64_t channels = 1) {
  const auto rows = static_cast<int64_t>(pixels.size()) / (channels * height * width);
  Table table = {.schema = {.name = "small", .input_shape = {channels, height, width}, .classes = 2}, .inputs = std::move(pixels)};
  table.class_targets.assign(static_cast<size_t>(rows), 1);
  return std::make_shared<const TableDataset>(std::move(table));
}

std::shared_ptr<const Dataset> With(const std::shared_ptr<const Dataset>& dataset, const Value& list) {
  const auto transforms = MakeTransforms(list, dataset->schema());
  EXPECT_TRUE(transforms.ok()) << transforms.status();
  return WithTransforms(dataset, *transforms);
}

// What sample `row` becomes over `epochs` epochs, and how often.
std::map<std::vector<float>, int> Outcomes(const Dataset& dataset, int epochs, int64_t row = 0) {
  std::map<std::vector<float>, int> outcomes;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    const AugmentContext augment = {.seed = 8, .epoch = epoch};
    ++outcomes[Inputs(Gathered(dataset, std::vector<int64_t>{row}, &augment))];
  }
  return outcomes;
}

TEST(Pixels, EveryByteIsDividedBy255WithOneRounding) {
  std::vector<uint8_t> bytes(256);
  std::iota(bytes.begin(), bytes.end(), 0);
  std::vector<float> out(256);
  PixelsToFloat(bytes, out);
  for (int x = 0; x < 256; ++x) ASSERT_EQ(std::bit_cast<uint32_t>(out[x]), std::bit_cast<uint32_t>(static_cast<float>(x) / 255.0f)) << x;
}

// Three float operations, each rounded. Every length up to 70 takes every vector body and every tail.
TEST(Pixels, NormalisationIsBitForBitThreeFloatOperations) {
  std::vector<uint8_t> bytes(256 + 70);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37);
  for (const auto& [mean, std] : {std::pair(0.1307f, 0.3081f), {0.5f, 0.5f}, {0.2860f, 0.3530f}, {-3.7f, 1e-3f}, {0.0f, 7.0f}}) {
    for (size_t length = 0; length <= 70; ++length) {
      for (const size_t begin : {size_t{0}, size_t{256} - length}) {
        std::vector<float> out(length);
        PixelsToFloat(std::span(bytes).subspan(begin, length), mean, std, out);
        for (size_t i = 0; i < length; ++i) {
          volatile float scaled = static_cast<float>(bytes[begin + i]) / 255.0f;  // volatile: no operation is moved or merged
          volatile float centred = scaled - mean;
          const float expected = centred / std;
          ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(expected));
        }
      }
    }
  }
}

// Folded into the set of bytes, or applied to floats afterwards: the same bits.
TEST(Normalize, FoldedIntoImagesEqualsAfterwards) {
  std::vector<uint8_t> pixels(5 * 3 * 4 * 4);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 41);
  const std::vector<uint8_t> labels = {0, 1, 0, 1, 1};
  const auto images =
      std::make_shared<const ImageDataset>(DatasetSchema{.name = "i", .input_shape = {3, 4, 4}, .classes = 2}, pixels, labels, "f");
  const auto floats = FloatImages(4, 4, Inputs(Gathered(*images, Range(0, 5))), 3);
  const Value::List mean = {0.1, 0.2, 0.3}, std = {0.5, 0.25, 0.7};
  for (const Value& settings :
       {Settings({{"type", "normalize"}, {"mean", mean}, {"std", std}}), Settings({{"type", "normalize"}, {"mean", 0.4}, {"std", 0.3}})}) {
    const auto folded = With(images, settings), afterwards = With(floats, settings);
    ASSERT_NE(dynamic_cast<const ImageDataset*>(folded.get()), nullptr);
    EXPECT_EQ(Inputs(Gathered(*folded, {4, 0, 2})), Inputs(Gathered(*afterwards, {4, 0, 2})));
    EXPECT_EQ(folded->fingerprint(), images->fingerprint());
  }
  // Twice: the second is not folded, and not lost.
  const Value twice = Value::List{Value::Map{{"type", "normalize"}, {"mean", 0.1}, {"std", 0.5}},
                                  Value::Map{{"type", "normalize"}, {"mean", -1}, {"std", 2}}};
  EXPECT_EQ(Inputs(Gathered(*With(images, twice), {1, 3})), Inputs(Gathered(*With(floats, twice), {1, 3})));
}

TEST(Normalize, OneEntryPerChannelAndInEvaluationToo) {
  const auto images = FloatImages(1, 2, {1, 2, 10, 20}, 2);
  const auto normalized = With(images, Settings({{"type", "normalize"}, {"mean", Value::List{1, 10}}, {"std", Value::List{0.5, 5}}}));
  EXPECT_THAT(Inputs(Gathered(*normalized, {0})), ElementsAre(0, 2, 0, 2));
  EXPECT_EQ(Outcomes(*normalized, 3).size(), 1u);
}

TEST(Normalize, OneEntryPerColumnOfATable) {
  Table table = {.schema = {.name = "t", .input_shape = {2}, .classes = 2}, .inputs = {1, 100, 3, 300}, .class_targets = {0, 1}};
  const auto normalized = With(std::make_shared<const TableDataset>(std::move(table)),
                               Settings({{"type", "normalize"}, {"mean", Value::List{1, 100}}, {"std", Value::List{2, 200}}}));
  EXPECT_THAT(Inputs(Gathered(*normalized, {1, 0})), ElementsAre(1, 1, 0, 0));
}

TEST(Flip, TurnsLeftToRightInEveryChannelOrNot) {
  const auto images = FloatImages(2, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 2);
  const std::vector<float> plain = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, flipped = {3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10};
  const auto half = Outcomes(*With(images, Settings({{"type", "flip"}})), 1000);
  ASSERT_EQ(half.size(), 2u);
  EXPECT_NEAR(half.at(plain), 500, 60);  // 3.8 standard deviations
  EXPECT_NEAR(half.at(flipped), 500, 60);
  EXPECT_EQ(Outcomes(*With(images, Settings({{"type", "flip"}, {"probability", 1}})), 20).begin()->first, flipped);
  EXPECT_EQ(Outcomes(*With(images, Settings({{"type", "flip"}, {"probability", 0}})), 20).begin()->first, plain);
}

// 2 x 3 with a pad of 1: nine windows, all written down, each about as often.
TEST(PadCrop, GivesEveryWindowEquallyOften) {
  const auto images = FloatImages(2, 3, {1, 2, 3, 4, 5, 6});
  const std::vector<std::vector<float>> windows = {{0, 0, 0, 0, 1, 2}, {0, 0, 0, 1, 2, 3}, {0, 0, 0, 2, 3, 0},
                                                   {0, 1, 2, 0, 4, 5}, {1, 2, 3, 4, 5, 6}, {2, 3, 0, 5, 6, 0},
                                                   {0, 4, 5, 0, 0, 0}, {4, 5, 6, 0, 0, 0}, {5, 6, 0, 0, 0, 0}};
  const auto outcomes = Outcomes(*With(images, Settings({{"type", "pad_crop"}, {"pad", 1}})), 1800);
  ASSERT_EQ(outcomes.size(), windows.size());
  for (const auto& window : windows) {
    ASSERT_TRUE(outcomes.contains(window));
    EXPECT_NEAR(outcomes.at(window), 200, 54);  // 4 standard deviations
  }
}

TEST(PadCrop, MovesChannelsTogetherAndByAsMuchAsThePad) {
  const auto images = FloatImages(2, 2, {1, 2, 3, 4, 10, 20, 30, 40}, 2);
  const auto outcomes = Outcomes(*With(images, Settings({{"type", "pad_crop"}, {"pad", 2}})), 2000);
  for (const auto& [image, count] : outcomes) {
    for (size_t i = 0; i < 4; ++i) ASSERT_EQ(image[4 + i], 10 * image[i]);
  }
  // 3 x 3 windows that show something; the rest show nothing but padding.
  EXPECT_EQ(outcomes.size(), 9u + 1u);
}

// Among thousands of random angles up to 90 degrees some lie next to a quarter turn, where the result is known pixel for pixel.
TEST(Rotate, ByUpTo90DegreesComesNearAQuarterTurn) {
  const std::vector<float> image = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  // Each pixel is looked up where the rotation takes it from: out(y, x) = in(x, 2 - y) by +90, in(2 - x, y) by -90.
  const std::vector<float> plus = {3, 6, 9, 2, 5, 8, 1, 4, 7}, minus = {7, 4, 1, 8, 5, 2, 9, 6, 3};
  const auto outcomes = Outcomes(*With(FloatImages(3, 3, image), Settings({{"type", "rotate"}, {"degrees", 90}})), 4000);
  double to_plus = 1e9, to_minus = 1e9, to_plain = 1e9;
  for (const auto& [turned, count] : outcomes) {
    const auto distance = [&](const std::vector<float>& other) {
      double most = 0;
      for (size_t i = 0; i < other.size(); ++i) most = std::max(most, static_cast<double>(std::fabs(turned[i] - other[i])));
      return most;
    };
    to_plus = std::min(to_plus, distance(plus));
    to_minus = std::min(to_minus, distance(minus));
    to_plain = std::min(to_plain, distance(image));
    ASSERT_FLOAT_EQ(turned[4], 5);  // the centre stays
  }
  // 4,000 angles from 180 degrees: the nearest lies within a tenth of a degree.
  EXPECT_LT(to_plus, 0.03);
  EXPECT_LT(to_minus, 0.03);
  EXPECT_LT(to_plain, 0.03);
}

// The transform itself, with the angle that its generator gives: bilinear weights worked out in double, apart from the code.
TEST(Rotate, InterpolatesBilinearlyWithZerosFromOutside) {
  constexpr int64_t kHeight = 4, kWidth = 5;
  std::vector<float> image(kHeight * kWidth);
  for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>((i * i * 7 + 3 * i) % 11);
  const auto dataset = With(FloatImages(kHeight, kWidth, image), Settings({{"type", "rotate"}, {"degrees", 40}}));
  for (int epoch = 0; epoch < 50; ++epoch) {
    const AugmentContext augment = {.seed = 3, .epoch = epoch};
    Rng rng(3, RngPurpose::kAugment, static_cast<uint64_t>(epoch), 0);
    const double angle = (2.0 * static_cast<double>(rng.Uniform()) - 1.0) * 40 * M_PI / 180;
    const auto turned = Inputs(Gathered(*dataset, std::vector<int64_t>{0}, &augment));
    for (int64_t y = 0; y < kHeight; ++y) {
      for (int64_t x = 0; x < kWidth; ++x) {
        // A tent around every pixel of the image is the same as bilinear interpolation.
        const double from_y = 1.5 + std::sin(angle) * (x - 2.0) + std::cos(angle) * (y - 1.5);
        const double from_x = 2.0 + std::cos(angle) * (x - 2.0) - std::sin(angle) * (y - 1.5);
        double expected = 0;
        for (int64_t j = 0; j < kHeight; ++j) {
          for (int64_t i = 0; i < kWidth; ++i) {
            expected += std::max(0.0, 1 - std::fabs(from_y - j)) * std::max(0.0, 1 - std::fabs(from_x - i)) * image[j * kWidth + i];
          }
        }
        ASSERT_NEAR(turned[y * kWidth + x], expected, 1e-5) << epoch << " " << y << " " << x;
      }
    }
  }
}

TEST(Rotate, ByZeroChangesNothing) {
  const std::vector<float> image = {1, 2, 3, 4, 5, 6};
  EXPECT_THAT(Outcomes(*With(FloatImages(2, 3, image), Settings({{"type", "rotate"}, {"degrees", 0}})), 5).begin()->first,
              Pointwise(FloatNear(1e-6f), image));
}

TEST(Augmentation, IsLeftOutInEvaluation) {
  const std::vector<float> image = {1, 2, 3, 4, 5, 6};
  const auto dataset =
      With(FloatImages(2, 3, image), Value::List{Value::Map{{"type", "flip"}, {"probability", 1}},
                                                 Value::Map{{"type", "pad_crop"}, {"pad", 2}}, Value::Map{{"type", "rotate"}}});
  EXPECT_EQ(Inputs(Gathered(*dataset, {0})), image);
}

TEST(Augmentation, DependsOnSeedEpochAndSampleNotOnTheBatch) {
  const auto plain = *MakeSynthetic({.samples = 40, .shape = {1, 6, 6}});
  const auto dataset =
      With(plain, Value::List{Value::Map{{"type", "pad_crop"}, {"pad", 3}}, Value::Map{{"type", "rotate"}, {"degrees", 45}}});
  const AugmentContext augment = {.seed = 1, .epoch = 2};
  const auto together = Inputs(Gathered(*dataset, Range(0, 40), &augment));
  for (const int64_t i : {0, 7, 39}) {
    const auto alone = Inputs(Gathered(*dataset, std::vector<int64_t>{i}, &augment));
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + i * 36)) << i;
  }
  const AugmentContext other_seed = {.seed = 2, .epoch = 2};
  EXPECT_NE(Inputs(Gathered(*dataset, Range(0, 40), &other_seed)), together);
}

TEST(Augmentation, RunsInTheOrderOfTheList) {
  // Normalised after padding, the padding is no longer 0.
  const auto dataset = With(FloatImages(1, 1, {5}), Value::List{Value::Map{{"type", "pad_crop"}, {"pad", 1}},
                                                                Value::Map{{"type", "normalize"}, {"mean", 1}, {"std", 2}}});
  const auto outcomes = Outcomes(*dataset, 200);
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_TRUE(outcomes.contains({-0.5f}));
  EXPECT_TRUE(outcomes.contains({2.0f}));
}

TEST(MakeTransforms, MistakesAreNamedWithTheirPlace) {
  const DatasetSchema images = {.name = "i", .input_shape = {3, 8, 8}}, table = {.name = "t", .input_shape = {4}};
  const auto error = [](const Value& list, const DatasetSchema& schema) {
    const auto transforms = MakeTransforms(list, schema);
    EXPECT_EQ(transforms.status().code(), StatusCode::kInvalidArgument);
    return Message(transforms.status());
  };
  EXPECT_THAT(error(Value::List{Value::Map{{"type", "flip"}}, Value::Map{{"type", "flop"}}}, images),
              AllOf(HasSubstr("data.transforms[1].type: unknown transform \"flop\""), HasSubstr("did you mean \"flip\"?")));
  EXPECT_THAT(error(Settings({{"type", "flip"}, {"chance", 0.5}}), images), HasSubstr("data.transforms[0].chance: unknown key"));
  EXPECT_THAT(error(Settings({{"type", "flip"}, {"probability", 1.5}}), images), HasSubstr("found 1.5, expected a number from 0 to 1"));
  EXPECT_THAT(error(Settings({{"type", "flip"}}), table), HasSubstr("wants images"));
  EXPECT_THAT(error(Settings({{"type", "pad_crop"}, {"pad", 9}}), images), HasSubstr("an integer from 1 to 8"));
  EXPECT_THAT(error(Settings({{"type", "rotate"}, {"degrees", "ten"}}), images), HasSubstr("degrees"));
  EXPECT_THAT(error(Settings({{"type", "normalize"}, {"mean", 0}}), images), HasSubstr(".std: found 0 numbers"));
  EXPECT_THAT(error(Settings({{"type", "normalize"}, {"mean", Value::List{1, 2}}, {"std", 1}}), images),
              HasSubstr("one for each of the 3 channels"));
  for (const double std : {0.0, -1.0, 1e300, 1e-60}) {
    EXPECT_THAT(error(Settings({{"type", "normalize"}, {"mean", 0}, {"std", std}}), images), HasSubstr("expected numbers above 0")) << std;
  }
  EXPECT_THAT(error(Settings({{"type", "normalize"}, {"mean", 1e300}, {"std", 1}}), images), HasSubstr(".mean"));
  EXPECT_THAT(error(Value("flip"), images), HasSubstr("expected a list of maps"));
  EXPECT_THAT(error(Value::List{"flip"}, images), HasSubstr("data.transforms[0]: found \"flip\", expected a map"));
  EXPECT_TRUE(MakeTransforms(Value(), images)->empty());
}

// A user's own transform: adds its `by` to every element.
class AddConstant final : public Transform {
 public:
  explicit AddConstant(double by) : by_(static_cast<float>(by)) {}
  bool training_only() const override { return false; }
  void Apply(std::span<const int64_t>, std::span<float> sample, Rng*, std::vector<float>*) const override {
    for (float& x : sample) x += by_;
  }

 private:
  float by_;
};
DTRAIN_REGISTER_TRANSFORM("add_for_test",
                          [](const Value& settings, std::string_view, const DatasetSchema&) -> StatusOr<std::shared_ptr<const Transform>> {
                            return std::make_shared<const AddConstant>(settings.Double("by", 0));
                          });

TEST(MakeTransforms, AUsersOwnIsKnownByItsName) {
  EXPECT_THAT(Inputs(Gathered(*With(FloatImages(1, 2, {1, 2}), Settings({{"type", "add_for_test"}, {"by", 3}})), {0})), ElementsAre(4, 5));
}

}  // namespace
}  // namespace dtrain
