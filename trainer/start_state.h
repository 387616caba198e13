// Tensors to begin a run with that come from somewhere else: a safetensors file (Python's too), a checkpoint, a run.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/storage.h"
#include "base/tensor_view.h"

namespace dtrain {

// The model's tensors at `path`: a .safetensors file, a checkpoint directory, or a run directory (its newest checkpoint).
// A tensor whose name is a key of `names` gets the value as its name; the value "" leaves it out. kInvalidArgument if a
// key is not in the file or two tensors get one name; otherwise the errors of reading.
StatusOr<std::vector<HostTensor>> LoadInitialTensors(Storage& storage, const std::string& path,
                                                     const std::map<std::string, std::string>& names);

// "old1=new1,old2=new2" as such a map. kInvalidArgument shows the part that is no pair.
StatusOr<std::map<std::string, std::string>> ParseNameMap(const std::string& text);

}  // namespace dtrain
