// The exchange among ranks that share no memory: buckets travel by a communicator (ring, tree, all-to-all) in a thread of
// their own while backward still runs; every rank then applies the whole update to its own copy of the parameters.
// Buckets go in their order, whatever order they were offered in, so that all ranks make the same calls.
//
// Reproducible: slice j of every rank goes straight to rank j, who adds in the order of the tree over the leaves, and the sums
// are gathered: P (N-1)/N elements out, P (N-1)/N sums out, as many in; the ring's bytes (Patarasu and Yuan, JPDC 2009).
// Otherwise AllReduce of the communicator, in its own order.
#pragma once
#include "allreduce/communicator.h"
#include "trainer/exchange.h"

namespace dtrain {

// Collective: every rank passes the same options and layouts. GradientPlace is kFlat whatever the options say (nothing is
// kept). The communicator is used by this exchange alone from now on.
StatusOr<std::unique_ptr<GradientExchange>> MakeRingExchange(const ExchangeOptions& options, std::unique_ptr<Communicator> communicator,
                                                             const FlatLayout& layout, const FlatLayout& buffer_layout);

}  // namespace dtrain
