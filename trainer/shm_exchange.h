// The exchange among ranks of one host: gradients never leave shared memory. The owner of a slice reads all ranks'
// gradients where backward left them and updates the one copy of the parameters that all ranks share.
// A step costs two barriers, three with clipping. Moved by a rank: P/N elements read from each rank, P/N written.
#pragma once
#include "allreduce/shm_communicator.h"
#include "trainer/exchange.h"

namespace dtrain {

struct ShmExchangeOptions {
  int segment_fd = -1;  // empty, the same segment on all ranks; stays the caller's
  int rank = 0;
  int size = 1;
  std::function<Status()> health = [] { return OkStatus(); };  // of the job; ends every wait with its error
};

// Collective: every rank passes the same options and layouts.
StatusOr<std::unique_ptr<GradientExchange>> MakeShmExchange(const ExchangeOptions& options, const ShmExchangeOptions& shm,
                                                            const FlatLayout& layout, const FlatLayout& buffer_layout, Deadline deadline);

}  // namespace dtrain
