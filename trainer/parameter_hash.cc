#include "trainer/parameter_hash.h"

#include <algorithm>
#include <vector>

#include "base/digest.h"

namespace dtrain {

std::string ParameterHash(std::span<const HostTensor> tensors) {
  std::vector<const HostTensor*> ordered;
  for (const HostTensor& tensor : tensors) ordered.push_back(&tensor);
  std::sort(ordered.begin(), ordered.end(), [](const HostTensor* a, const HostTensor* b) { return a->info.name < b->info.name; });
  Sha256 hash;
  for (const HostTensor* tensor : ordered) hash.Update(tensor->bytes);
  return hash.HexDigest();
}

}  // namespace dtrain
