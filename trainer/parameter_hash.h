// One number for the answer of a run: equal hashes are equal bits in every tensor.
#pragma once
#include <span>
#include <string>

#include "base/tensor_view.h"

namespace dtrain {

// SHA-256, in hexadecimal digits, over the tensors' bytes in ascending order of name.
std::string ParameterHash(std::span<const HostTensor> tensors);

}  // namespace dtrain
