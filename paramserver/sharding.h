// How the flat parameters are cut: into one contiguous range a server, equal in bytes up to a block, and each range into
// chunks, the payload of one push or pull. Contiguous ranges do at once what placing whole tensors by name cannot: small
// tensors share a chunk, large ones are split, and no server has more than a block above its share. Pure functions.
#pragma once
#include <cstdint>
#include <vector>

#include "base/flat_layout.h"
#include "paramserver/table.h"

namespace dtrain::ps {

struct Chunk {
  int server = 0;
  ElementRange range;   // in the flat buffer; begins and ends at blocks, padding included
  int first_block = 0;  // blocks [first_block, end_block) of the layout
  int end_block = 0;
  bool operator==(const Chunk&) const = default;
};

struct Sharding {
  std::vector<ElementRange> of_server;
  std::vector<Chunk> chunks;  // in flat order, so each server's are adjacent

  // The chunks of `server`: indices [first, second).
  std::pair<int, int> chunks_of(int server) const;
  // The index of the chunk that begins at element `offset`, or -1.
  int chunk_at(int64_t offset) const;
};

// The same for everyone who passes the same table. The table was checked.
Sharding PlanSharding(const Table& table, const FlatLayout& layout);

// The largest server's bytes over the mean: 1 is perfect.
double Imbalance(const std::vector<int64_t>& bytes_of_server);
std::vector<int64_t> BytesOfServers(const Sharding& sharding);
// What placing every whole tensor by a hash of its name gives, for comparison.
std::vector<int64_t> BytesByNameHash(const Table& table);

}  // namespace dtrain::ps
