// MNIST (LeCun, Cortes, Burges) and Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017): where their files lie and what they hash to.
#pragma once
#include <string>
#include <string_view>

#include "base/status.h"
#include "datasets/open_dataset.h"

namespace dtrain {

// The training and test part of "mnist" or "fashion-mnist". Looked for in `root`/<name>, in `root` if that is its last
// part, and, for fashion-mnist, where Debian's package dataset-fashion-mnist puts it; files may be gzip or plain.
// kNotFound names the folders that were searched; kDataLoss if the unpacked bytes are not the published ones.
StatusOr<DatasetParts> OpenMnist(std::string_view name, const std::string& root);

}  // namespace dtrain
