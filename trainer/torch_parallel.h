// LibTorch's own threads for loops of ours: one pool a rank, so that no core is fought for.
#pragma once
#include "trainer/exchange.h"

namespace dtrain {

ParallelFor TorchParallelFor();

}  // namespace dtrain
