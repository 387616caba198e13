#include "datasets/open_dataset.h"

#include <cstdlib>
#include <map>

#include "base/check.h"
#include "datasets/csv.h"
#include "datasets/embedded.h"
#include "datasets/mnist.h"
#include "datasets/settings.h"
#include "datasets/split.h"
#include "datasets/synthetic.h"
#include "datasets/transform.h"

namespace dtrain {
namespace {

constexpr double kDefaultValidFraction = 0.1;

StatusOr<uint64_t> Seed(const Value& config) {
  ASSIGN_OR_RETURN(const int64_t seed, IntSetting(config, "data", "seed", 0, INT64_MIN, INT64_MAX));
  return static_cast<uint64_t>(seed);
}

StatusOr<DatasetParts> OpenMnistOf(std::string_view name, const Value& config) {
  ASSIGN_OR_RETURN(const std::string root, DataRoot(config));
  return OpenMnist(name, root);
}

StatusOr<DatasetParts> OpenSynthetic(const Value& config) {
  SyntheticOptions options;
  ASSIGN_OR_RETURN(options.seed, Seed(config));
  ASSIGN_OR_RETURN(options.samples, IntSetting(config, "data", "samples", options.samples, 1, INT64_MAX));
  ASSIGN_OR_RETURN(options.classes, IntSetting(config, "data", "classes", options.classes, 2, INT64_MAX));
  ASSIGN_OR_RETURN(const auto shape, NumbersSetting(config, "data", "shape"));
  if (!config.At("shape").is_null()) options.shape.clear();
  for (const double size : shape) {
    if (!(size >= 1 && size <= 1e9) || size != static_cast<double>(static_cast<int64_t>(size))) {
      return InvalidArgument("data.shape: found ", config.At("shape").ToJson(), ", expected whole numbers from 1 on");
    }
    options.shape.push_back(static_cast<int64_t>(size));
  }
  DatasetParts parts;
  ASSIGN_OR_RETURN(parts.train, MakeSynthetic(options));
  // More samples of the same distribution, behind those to train on.
  options.first_sample = options.samples;
  options.samples = std::max<int64_t>(1, options.samples / 10);
  ASSIGN_OR_RETURN(parts.test, MakeSynthetic(options));
  return parts;
}

StatusOr<DatasetParts> OpenCsvOf(const Value& config) {
  CsvOptions options;
  ASSIGN_OR_RETURN(const std::string path, TextSetting(config, "data", "path", ""));
  if (path.empty()) return InvalidArgument("data.path: absent, expected the CSV file to read");
  // A label is a name or a number.
  if (const int64_t* number = config.At("label").if_int()) {
    options.label = Cat(*number);
  } else {
    ASSIGN_OR_RETURN(options.label, TextSetting(config, "data", "label", ""));
  }
  ASSIGN_OR_RETURN(options.header, BoolSetting(config, "data", "header", options.header));
  ASSIGN_OR_RETURN(std::string delimiter, TextSetting(config, "data", "delimiter", ","));
  if (delimiter == "tab" || delimiter == "\\t") delimiter = "\t";
  if (delimiter.size() != 1 || delimiter == "\"" || delimiter == "\n" || delimiter == "\r") {
    return InvalidArgument("data.delimiter: found \"", delimiter, "\", expected one character, or tab");
  }
  options.delimiter = delimiter[0];
  ASSIGN_OR_RETURN(const std::string task, TextSetting(config, "data", "task", "classification"));
  const auto parsed = ParseTaskType(task);
  if (!parsed.ok()) return Annotate(parsed.status(), "data");
  options.task = *parsed;
  DatasetParts parts;
  ASSIGN_OR_RETURN(parts.train, OpenCsv(path, options));
  return parts;
}

// A set without settings and without a test part.
template <typename Open>
DatasetFactory Whole(Open open) {
  return [open](const Value&) -> StatusOr<DatasetParts> {
    ASSIGN_OR_RETURN(auto whole, open());
    return DatasetParts{.train = std::move(whole)};
  };
}

std::map<std::string, DatasetFactory>& Factories() {
  static auto* const factories = new std::map<std::string, DatasetFactory>{
      {"digits", Whole(OpenDigits)},
      {"iris", Whole(OpenIris)},
      {"mnist", [](const Value& config) { return OpenMnistOf("mnist", config); }},
      {"fashion-mnist", [](const Value& config) { return OpenMnistOf("fashion-mnist", config); }},
      {"synthetic", OpenSynthetic},
      {"csv", OpenCsvOf},
  };
  return *factories;
}

// "10 %", "12.5 %"
std::string Percent(double fraction) { return Cat(ParseDouble(Fixed(fraction * 100, 3)).value_or(0), " %"); }

// The two sets that `valid` asks for, and how they came about.
StatusOr<DatasetPair> Split(const DatasetParts& parts, const Value& valid, uint64_t seed) {
  const std::string& name = parts.train->schema().name;
  const bool wants_test = valid.if_string() != nullptr && *valid.if_string() == "test";
  if (wants_test && parts.test == nullptr) {
    return WithHint(InvalidArgument("data.valid: test, but ", name, " has no test part"), "give a fraction, e.g. valid: 0.1");
  }
  DatasetPair pair;
  std::string how;
  if (wants_test || (valid.is_null() && parts.test != nullptr)) {
    pair = {parts.train, parts.test};
    how = "the set's own test part";
  } else {
    double fraction = kDefaultValidFraction;
    if (const double* number = valid.if_double()) {
      fraction = *number;
    } else if (!valid.is_null()) {
      return InvalidArgument("data.valid: found ", valid.ToJson(), ", expected test or a fraction between 0 and 1");
    }
    ASSIGN_OR_RETURN(SplitRows rows, SplitByFraction(parts.train->size(), fraction, seed));
    pair = {std::make_shared<const Subset>(parts.train, std::move(rows.train)),
            std::make_shared<const Subset>(parts.train, std::move(rows.valid))};
    how = Cat(Percent(fraction), " drawn by seed ", seed);
  }
  pair.note =
      Cat(name, ": ", WithCommas(pair.train->size()), " samples to train, ", WithCommas(pair.valid->size()), " to validate (", how, ")");
  return pair;
}

}  // namespace

bool RegisterDataset(std::string name, DatasetFactory factory) {
  const bool is_new = Factories().emplace(std::move(name), std::move(factory)).second;
  DTRAIN_CHECK(is_new);
  return true;
}

std::vector<std::string> DatasetNames() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : Factories()) names.push_back(name);
  return names;
}

StatusOr<std::string> DataRoot(const Value& data_config) {
  const char* from_environment = std::getenv("DTRAIN_DATA");
  const bool given = from_environment != nullptr && *from_environment != '\0';
  return TextSetting(data_config, "data", "root", given ? from_environment : "data");
}

StatusOr<DatasetPair> OpenDataset(const Value& data_config) {
  ASSIGN_OR_RETURN(const std::string name, TextSetting(data_config, "data", "dataset", "digits"));
  const auto factory = Factories().find(name);
  if (factory == Factories().end()) {
    const auto names = DatasetNames();
    const auto nearest = Nearest(name, names);
    return WithHint(InvalidArgument("data.dataset: unknown data set \"", name, "\"; known are ", Join(names, ", ")),
                    nearest ? Cat("did you mean \"", *nearest, "\"?") : "");
  }
  ASSIGN_OR_RETURN(const uint64_t seed, Seed(data_config));
  ASSIGN_OR_RETURN(const DatasetParts parts, factory->second(data_config));
  DTRAIN_CHECK(parts.train != nullptr);
  ASSIGN_OR_RETURN(DatasetPair pair, Split(parts, data_config.At("valid"), seed));
  ASSIGN_OR_RETURN(const TransformList transforms, MakeTransforms(data_config.At("transforms"), pair.train->schema()));
  pair.train = WithTransforms(std::move(pair.train), transforms);
  pair.valid = WithTransforms(std::move(pair.valid), transforms);
  return pair;
}

}  // namespace dtrain
