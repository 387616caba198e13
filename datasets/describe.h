// What a pair of sets looks like, for people and scripts that look before they train: sizes, class balance, values, first
// rows. Reads samples as evaluation does, so normalised sets show the values that the model gets.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/value.h"
#include "datasets/open_dataset.h"

namespace dtrain {

// Finite numbers that were looked at; `others` are those that are not finite.
struct NumberSummary {
  int64_t count = 0, others = 0;
  double min = 0, max = 0, mean = 0;
  double squares = 0;  // sum of squared distances from the mean

  void Add(double number);
  double std() const;  // of the whole (divided by count); 0 if there is nothing
};

// How many samples of a part are of a class.
struct ClassCount {
  std::string name;  // its number where the set has no names
  int64_t train = 0, valid = 0;
};

struct SampleRow {
  std::vector<double> inputs;  // all, or the first kInputsShown
  double target = 0;
};

struct DatasetDescription {
  // More samples of a part than this are not counted by class; more than kRowsMeasured are not looked at value by value.
  static constexpr int64_t kRowsCounted = 1'000'000, kRowsMeasured = 10'000;
  static constexpr int64_t kInputsShown = 4096, kRowsShown = 3;

  DatasetSchema schema;
  std::string note;         // how the parts came about
  std::string fingerprint;  // of the part to train on
  std::string valid_fingerprint;
  int64_t train_samples = 0, valid_samples = 0;
  int64_t train_counted = 0, valid_counted = 0;  // the first so many samples are in `classes`
  std::vector<ClassCount> classes;               // empty for regression
  int64_t rows_measured = 0;                     // the first so many samples to train on are in the summaries
  NumberSummary inputs;
  std::vector<NumberSummary> columns;  // one a column, where columns have names
  NumberSummary targets;               // for regression
  std::vector<SampleRow> first_rows;   // to train on
};

// Errors of the sets' Gather, and kDataLoss for a target that is no class of the schema.
StatusOr<DatasetDescription> Describe(const DatasetPair& pair);

// Some 30 lines, at most 100 columns wide unless names are longer; the first images as pictures.
std::string ToText(const DatasetDescription& description);
// The same for scripts: keys as the members are called.
Value ToValue(const DatasetDescription& description);

}  // namespace dtrain
