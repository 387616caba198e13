// The exchange of a single process: no communication, one update over the whole buffer. The reference that every other
// implementation is compared with.
#pragma once
#include "trainer/exchange.h"

namespace dtrain {

// Buffers for the tensors of the two layouts (float elements). kInvalidArgument if an option is out of range.
StatusOr<std::unique_ptr<GradientExchange>> MakeLocalExchange(const ExchangeOptions& options, const FlatLayout& layout,
                                                              const FlatLayout& buffer_layout);

}  // namespace dtrain
