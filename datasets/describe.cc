#include "datasets/describe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

namespace dtrain {
namespace {

template <typename T>
double Load(const std::byte* data, int64_t at) {
  T element;
  std::memcpy(&element, data + at * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return static_cast<double>(element);
}

// Element `at` of a tensor; nothing for a type that is not looked into (half precision, bool).
std::optional<double> NumberAt(DType dtype, const std::byte* data, int64_t at) {
  switch (dtype) {
    case DType::kF32:
      return Load<float>(data, at);
    case DType::kF64:
      return Load<double>(data, at);
    case DType::kI64:
      return Load<int64_t>(data, at);
    case DType::kI32:
      return Load<int32_t>(data, at);
    case DType::kU8:
      return Load<uint8_t>(data, at);
    case DType::kBF16:
    case DType::kF16:
    case DType::kBool:
      return std::nullopt;
  }
  return std::nullopt;
}

// Calls look(row, batch, row in batch) for the first `rows` samples of `dataset`.
template <typename Look>
Status ForFirstRows(const Dataset& dataset, int64_t rows, const Look& look) {
  constexpr int64_t kBatchRows = 256;
  Batch batch;
  std::vector<int64_t> indices;
  for (int64_t first = 0; first < rows; first += kBatchRows) {
    indices.resize(static_cast<size_t>(std::min(kBatchRows, rows - first)));
    std::iota(indices.begin(), indices.end(), first);
    RETURN_IF_ERROR(dataset.Gather(indices, nullptr, &batch));
    for (int64_t i = 0; i < batch.size(); ++i) RETURN_IF_ERROR(look(first + i, batch, i));
  }
  return OkStatus();
}

// The class that the target of row `i` of `batch` stands for.
StatusOr<int64_t> ClassOf(const DatasetSchema& schema, const Batch& batch, int64_t row, int64_t i) {
  const auto target = NumberAt(schema.target_dtype, batch.target_data(), i);
  if (target && *target >= 0 && *target < static_cast<double>(schema.classes) && *target == std::floor(*target))
    return static_cast<int64_t>(*target);
  return DataLoss("look at ", schema.name, ": the target of sample ", row, " is ", target.value_or(0), ", expected a class from 0 to ",
                  schema.classes - 1);
}

Status CountClasses(const Dataset& dataset, int64_t rows, int64_t ClassCount::*part, DatasetDescription* description) {
  return ForFirstRows(dataset, rows, [&](int64_t row, const Batch& batch, int64_t i) -> Status {
    ASSIGN_OR_RETURN(const int64_t number, ClassOf(description->schema, batch, row, i));
    ++(description->classes[static_cast<size_t>(number)].*part);
    return OkStatus();
  });
}

Status Measure(const Dataset& dataset, DatasetDescription* description) {
  const DatasetSchema& schema = description->schema;
  const int64_t elements = schema.input_elements();
  const bool has_columns = static_cast<int64_t>(schema.column_names.size()) == elements;
  if (has_columns) description->columns.resize(schema.column_names.size());
  return ForFirstRows(dataset, description->rows_measured, [&](int64_t row, const Batch& batch, int64_t i) {
    SampleRow shown;
    for (int64_t element = 0; element < elements; ++element) {
      const auto number = NumberAt(schema.input_dtype, batch.input_data(), i * elements + element);
      if (!number) break;
      description->inputs.Add(*number);
      if (has_columns) description->columns[static_cast<size_t>(element)].Add(*number);
      if (row < DatasetDescription::kRowsShown && element < DatasetDescription::kInputsShown) shown.inputs.push_back(*number);
    }
    shown.target = NumberAt(schema.target_dtype, batch.target_data(), i).value_or(0);
    if (schema.task == TaskType::kRegression) description->targets.Add(shown.target);
    if (row < DatasetDescription::kRowsShown) description->first_rows.push_back(std::move(shown));
    return OkStatus();
  });
}

// Four digits that count.
std::string Short(double number) {
  if (number == 0) return "0";
  const double size = std::fabs(number);
  if (size >= 1e7 || size < 1e-4) return Cat(static_cast<float>(number));
  const int digits = std::clamp(3 - static_cast<int>(std::floor(std::log10(size))), 0, 7);
  std::string text = Fixed(number, digits);
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

std::string Summary(const NumberSummary& numbers) {
  std::string text = Cat(Short(numbers.min), " to ", Short(numbers.max), ", mean ", Short(numbers.mean), ", std ", Short(numbers.std()));
  if (numbers.others > 0) text += Cat(", ", WithCommas(numbers.others), " not finite");
  return text;
}

// `text` in a field of `width`, to its right or left end.
std::string Right(const std::string& text, size_t width) { return std::string(width - std::min(width, text.size()), ' ') + text; }
std::string Left(const std::string& text, size_t width) { return text + std::string(width - std::min(width, text.size()), ' '); }

std::string CountAndShare(int64_t count, int64_t of) {
  const double percent = of == 0 ? 0 : 100.0 * static_cast<double>(count) / static_cast<double>(of);
  return Cat(Right(WithCommas(count), 11), Right(Fixed(percent, 1), 7), " %");
}

// "of the first 1,000,000"; empty if that is all.
std::string OfFirst(int64_t looked_at, int64_t all) { return looked_at < all ? Cat(" (of the first ", WithCommas(looked_at), ")") : ""; }

std::string TargetText(const DatasetSchema& schema, double target) {
  const auto number = static_cast<size_t>(std::max(0.0, target));
  return schema.task != TaskType::kRegression && number < schema.class_names.size() ? schema.class_names[number] : Short(target);
}

// Lines of a picture, two characters a pixel since they are about half as wide as high. Channels are averaged; a large image
// is thinned out to `kSideMax` pixels.
std::vector<std::string> Picture(const DatasetSchema& schema, const SampleRow& row) {
  constexpr int64_t kSideMax = 32;
  constexpr std::string_view kInk = " .:-=+*#%@";
  const int64_t channels = schema.input_shape[0], height = schema.input_shape[1], width = schema.input_shape[2];
  const int64_t stride = (std::max(height, width) + kSideMax - 1) / kSideMax;
  const auto gray = [&](int64_t y, int64_t x) {
    double sum = 0;
    for (int64_t c = 0; c < channels; ++c) sum += row.inputs[static_cast<size_t>((c * height + y) * width + x)];
    return sum / static_cast<double>(channels);
  };
  double low = gray(0, 0), high = low;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) low = std::min(low, gray(y, x)), high = std::max(high, gray(y, x));
  }
  std::vector<std::string> lines;
  for (int64_t y = 0; y < height; y += stride) {
    std::string& line = lines.emplace_back();
    for (int64_t x = 0; x < width; x += stride) {
      const double part = high > low ? (gray(y, x) - low) / (high - low) : 0;
      const bool finite = std::isfinite(part);
      line.append(2, finite ? kInk[std::min(kInk.size() - 1, static_cast<size_t>(part * static_cast<double>(kInk.size())))] : '?');
    }
  }
  return lines;
}

bool IsPicture(const DatasetDescription& description) {
  return description.schema.input_shape.size() == 3 && !description.first_rows.empty() &&
         static_cast<int64_t>(description.first_rows[0].inputs.size()) == description.schema.input_elements();
}

void AppendPictures(const DatasetDescription& description, std::string* text) {
  constexpr size_t kColumns = 80, kBetween = 4;
  const auto title = [&](size_t row) {
    return Cat("sample ", row, ": ", TargetText(description.schema, description.first_rows[row].target));
  };
  const auto first = Picture(description.schema, description.first_rows[0]);
  const size_t width = std::max(first[0].size(), title(0).size()) + kBetween;
  const bool two = description.first_rows.size() > 1 && width + first[0].size() <= kColumns;
  const auto second = two ? Picture(description.schema, description.first_rows[1]) : std::vector<std::string>(first.size());
  *text += Cat("first images\n  ", two ? Left(title(0), width) + title(1) : title(0), "\n");
  for (size_t y = 0; y < first.size(); ++y) {
    std::string line = Cat("  ", Left(first[y], width), second[y]);
    line.erase(line.find_last_not_of(' ') + 1);
    *text += line + "\n";
  }
}

void AppendRows(const DatasetDescription& description, std::string* text) {
  constexpr size_t kInputsInLine = 8;
  *text += "first rows\n";
  for (const SampleRow& row : description.first_rows) {
    std::vector<std::string> parts;
    for (size_t i = 0; i < std::min(row.inputs.size(), kInputsInLine); ++i) parts.push_back(Short(row.inputs[i]));
    if (description.schema.input_elements() > static_cast<int64_t>(parts.size())) parts.emplace_back("...");
    *text += Cat("  ", Join(parts, ", "), "  ->  ", TargetText(description.schema, row.target), "\n");
  }
}

Value ToValue(const NumberSummary& numbers) {
  return Value::Map{{"count", numbers.count}, {"not_finite", numbers.others}, {"min", numbers.min},
                    {"max", numbers.max},     {"mean", numbers.mean},         {"std", numbers.std()}};
}

Value TextList(const std::vector<std::string>& texts) { return Value::List(texts.begin(), texts.end()); }

}  // namespace

// After Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products", 1962.
void NumberSummary::Add(double number) {
  if (!std::isfinite(number)) {
    ++others;
    return;
  }
  min = count == 0 ? number : std::min(min, number);
  max = count == 0 ? number : std::max(max, number);
  ++count;
  const double before = number - mean;
  mean += before / static_cast<double>(count);
  squares += before * (number - mean);
}

double NumberSummary::std() const { return count == 0 ? 0 : std::sqrt(squares / static_cast<double>(count)); }

StatusOr<DatasetDescription> Describe(const DatasetPair& pair) {
  DatasetDescription description = {.schema = pair.train->schema(),
                                    .note = pair.note,
                                    .fingerprint = pair.train->fingerprint(),
                                    .valid_fingerprint = pair.valid->fingerprint(),
                                    .train_samples = pair.train->size(),
                                    .valid_samples = pair.valid->size()};
  const DatasetSchema& schema = description.schema;
  if (schema.task != TaskType::kRegression) {
    description.train_counted = std::min(description.train_samples, DatasetDescription::kRowsCounted);
    description.valid_counted = std::min(description.valid_samples, DatasetDescription::kRowsCounted);
    for (int64_t number = 0; number < schema.classes; ++number) {
      const bool named = number < static_cast<int64_t>(schema.class_names.size());
      description.classes.push_back({.name = named ? schema.class_names[static_cast<size_t>(number)] : Cat(number)});
    }
    RETURN_IF_ERROR(CountClasses(*pair.train, description.train_counted, &ClassCount::train, &description));
    RETURN_IF_ERROR(CountClasses(*pair.valid, description.valid_counted, &ClassCount::valid, &description));
  }
  description.rows_measured = std::min(description.train_samples, DatasetDescription::kRowsMeasured);
  RETURN_IF_ERROR(Measure(*pair.train, &description));
  return description;
}

std::string ToText(const DatasetDescription& description) {
  const DatasetSchema& schema = description.schema;
  std::string text = Cat(description.note, "\n");
  text += Cat("task         ", TaskTypeName(schema.task), schema.classes > 0 ? Cat(", ", schema.classes, " classes") : "", "\n");
  text += Cat("input        ", ShapeText(schema.input_shape), " ", SafetensorsName(schema.input_dtype), "\n");
  text += Cat("target       ", SafetensorsName(schema.target_dtype), "\n");
  text +=
      Cat("samples      ", WithCommas(description.train_samples), " to train, ", WithCommas(description.valid_samples), " to validate\n");
  text += Cat("fingerprint  ", description.fingerprint, "\n");
  text += Cat("values       ", Summary(description.inputs), " (",
              description.rows_measured < description.train_samples
                  ? Cat("the first ", WithCommas(description.rows_measured), " samples to train")
                  : "all samples to train",
              ")\n");
  constexpr size_t kColumnsShown = 32, kClassesShown = 100;
  size_t name_width = 5;
  for (size_t i = 0; i < description.columns.size() && i < kColumnsShown; ++i)
    name_width = std::max(name_width, schema.column_names[i].size());
  for (size_t i = 0; i < description.columns.size() && i < kColumnsShown; ++i) {
    text += Cat("  ", Left(schema.column_names[i], name_width), "  ", Summary(description.columns[i]), "\n");
  }
  if (description.columns.size() > kColumnsShown) text += Cat("  and ", description.columns.size() - kColumnsShown, " more columns\n");
  if (schema.task == TaskType::kRegression) {
    text += Cat("targets      ", Summary(description.targets), "\n");
  } else {
    name_width = 5;
    for (size_t i = 0; i < description.classes.size() && i < kClassesShown; ++i)
      name_width = std::max(name_width, description.classes[i].name.size());
    text += Cat("classes      ", Left("", name_width - 5), "train", OfFirst(description.train_counted, description.train_samples),
                ", valid", OfFirst(description.valid_counted, description.valid_samples), "\n");
    for (size_t i = 0; i < description.classes.size() && i < kClassesShown; ++i) {
      const ClassCount& count = description.classes[i];
      text += Cat("  ", Left(count.name, name_width), CountAndShare(count.train, description.train_counted),
                  CountAndShare(count.valid, description.valid_counted), "\n");
    }
    if (description.classes.size() > kClassesShown) text += Cat("  and ", description.classes.size() - kClassesShown, " more classes\n");
  }
  if (IsPicture(description)) {
    AppendPictures(description, &text);
  } else {
    AppendRows(description, &text);
  }
  return text;
}

Value ToValue(const DatasetDescription& description) {
  const DatasetSchema& schema = description.schema;
  Value::List shape(schema.input_shape.begin(), schema.input_shape.end()), classes, columns, rows;
  for (const ClassCount& count : description.classes) {
    classes.emplace_back(Value::Map{{"name", count.name}, {"train", count.train}, {"valid", count.valid}});
  }
  for (size_t i = 0; i < description.columns.size(); ++i) {
    Value column = ToValue(description.columns[i]);
    column.Set("name", schema.column_names[i]);
    columns.emplace_back(std::move(column));
  }
  for (const SampleRow& row : description.first_rows) {
    rows.emplace_back(Value::Map{{"inputs", Value::List(row.inputs.begin(), row.inputs.end())}, {"target", row.target}});
  }
  return Value::Map{{"schema", Value::Map{{"name", schema.name},
                                          {"task", std::string(TaskTypeName(schema.task))},
                                          {"input_shape", std::move(shape)},
                                          {"input_dtype", std::string(SafetensorsName(schema.input_dtype))},
                                          {"target_dtype", std::string(SafetensorsName(schema.target_dtype))},
                                          {"classes", schema.classes},
                                          {"class_names", TextList(schema.class_names)},
                                          {"column_names", TextList(schema.column_names)}}},
                    {"note", description.note},
                    {"fingerprint", description.fingerprint},
                    {"valid_fingerprint", description.valid_fingerprint},
                    {"train_samples", description.train_samples},
                    {"valid_samples", description.valid_samples},
                    {"train_counted", description.train_counted},
                    {"valid_counted", description.valid_counted},
                    {"classes", std::move(classes)},
                    {"rows_measured", description.rows_measured},
                    {"inputs", ToValue(description.inputs)},
                    {"columns", std::move(columns)},
                    {"targets", schema.task == TaskType::kRegression ? ToValue(description.targets) : Value()},
                    {"first_rows", std::move(rows)}};
}

}  // namespace dtrain
