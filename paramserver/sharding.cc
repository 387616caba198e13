#include "paramserver/sharding.h"

#include <algorithm>
#include <numeric>

#include "base/crc32c.h"

namespace dtrain::ps {

std::pair<int, int> Sharding::chunks_of(int server) const {
  const auto first = std::ranges::lower_bound(chunks, server, {}, &Chunk::server);
  const auto end = std::ranges::upper_bound(chunks, server, {}, &Chunk::server);
  return {static_cast<int>(first - chunks.begin()), static_cast<int>(end - chunks.begin())};
}

int Sharding::chunk_at(int64_t offset) const {
  const auto at = std::ranges::lower_bound(chunks, offset, {}, [](const Chunk& chunk) { return chunk.range.begin; });
  return at != chunks.end() && at->range.begin == offset ? static_cast<int>(at - chunks.begin()) : -1;
}

Sharding PlanSharding(const Table& table, const FlatLayout& layout) {
  Sharding sharding;
  const int64_t chunk_elements = table.chunk_bytes / ElementBytes(layout.dtype);
  const auto blocks = static_cast<int>(layout.blocks.size());
  int block = 0;
  for (int server = 0; server < table.servers; ++server) {
    // At least one block for this server and for each after it; otherwise up to the block nearest to its share.
    const int64_t wanted_end =
        layout.elements / table.servers * (server + 1) + layout.elements % table.servers * (server + 1) / table.servers;
    const int last_end = blocks - (table.servers - server - 1);
    int end = block + 1;
    const auto end_of = [&](int b) { return b < blocks ? layout.blocks[b].begin : layout.elements; };
    while (end < last_end && std::abs(end_of(end + 1) - wanted_end) <= std::abs(end_of(end) - wanted_end)) ++end;
    if (server + 1 == table.servers) end = blocks;
    const int64_t server_begin = end_of(block);
    while (block < end) {
      const int first = block++;
      const int64_t begin = layout.blocks[first].begin;
      while (block < end && end_of(block + 1) - begin <= chunk_elements) ++block;
      sharding.chunks.push_back({server, {begin, end_of(block)}, first, block});
    }
    sharding.of_server.push_back({server_begin, end_of(end)});
  }
  return sharding;
}

double Imbalance(const std::vector<int64_t>& bytes_of_server) {
  const double sum = static_cast<double>(std::accumulate(bytes_of_server.begin(), bytes_of_server.end(), int64_t{0}));
  const double largest = static_cast<double>(*std::ranges::max_element(bytes_of_server));
  return largest * static_cast<double>(bytes_of_server.size()) / sum;
}

std::vector<int64_t> BytesOfServers(const Sharding& sharding) {
  std::vector<int64_t> bytes;
  for (const ElementRange& range : sharding.of_server) bytes.push_back(range.size() * static_cast<int64_t>(sizeof(float)));
  return bytes;
}

std::vector<int64_t> BytesByNameHash(const Table& table) {
  std::vector<int64_t> bytes(table.servers);
  for (const TableEntry& entry : table.entries) {
    bytes[Crc32c(std::as_bytes(std::span(entry.info.name))) % static_cast<uint32_t>(table.servers)] += entry.info.bytes();
  }
  return bytes;
}

}  // namespace dtrain::ps
