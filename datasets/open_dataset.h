// From the configuration's `data` to the sets that training and validation read. The one door for the trainer; users'
// own sets come in by the same door, registered by a macro.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "base/value.h"
#include "datasets/dataset.h"

namespace dtrain {

// A set as it is published.
struct DatasetParts {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> test;  // null if the set has none
};

using DatasetFactory = std::function<StatusOr<DatasetParts>(const Value& data_config)>;

// Makes `name` known as data.dataset. Before main or at its beginning, once a name.
bool RegisterDataset(std::string name, DatasetFactory factory);
// At namespace scope of a user's own .cc file.
#define DTRAIN_REGISTER_DATASET(name, factory) \
  [[maybe_unused]] static const bool DTRAIN_CONCAT(dtrain_dataset_, __LINE__) = ::dtrain::RegisterDataset(name, factory)
std::vector<std::string> DatasetNames();  // ascending

// Where data sets lie: data.root, else $DTRAIN_DATA, else "data".
StatusOr<std::string> DataRoot(const Value& data_config);

struct DatasetPair {
  std::shared_ptr<const Dataset> train, valid;
  std::string note;  // "digits: 1,617 samples to train, 180 to validate (10 % drawn by seed 7)"
};

// Reads these keys of `data_config` (the configuration's `data`, with the run's `seed` put in):
//   dataset     digits (default), iris, mnist, fashion-mnist, synthetic, csv, or a registered name
//   root        see DataRoot
//   valid       test, or a fraction; default the set's own test part, else 0.1
//   seed        of the split and of synthetic data
//   transforms  see MakeTransforms; augmentation acts where Gather is given an AugmentContext
//   path, label, header, delimiter, task      of csv
//   samples, shape, classes                   of synthetic
// Errors: kInvalidArgument for a setting, kNotFound and kDataLoss for files.
StatusOr<DatasetPair> OpenDataset(const Value& data_config);

}  // namespace dtrain
