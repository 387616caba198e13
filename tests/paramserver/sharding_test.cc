// Goal: every element is on one server and in one chunk, and no server has more than its share. Method: the shape lists of
// four published models, whose parameter counts are the oracle that the lists are right, and seeded tables.
#include "paramserver/sharding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "base/rng.h"
#include "tests/paramserver/model_shapes.h"

namespace dtrain::ps {
namespace {

TEST(ModelShapes, HaveThePublishedNumbersOfParameters) {
  for (const ModelShapes& model : EveryModel(1)) {
    int64_t parameters = 0;
    for (const TableEntry& entry : model.table.entries) parameters += entry.info.elements();
    EXPECT_EQ(parameters, model.parameters) << model.name;
    EXPECT_TRUE(CheckTable(model.table, 1).ok());
  }
}

TEST(Sharding, IsBalancedOnPublishedModelsWhereNameHashingIsNot) {
  std::printf("largest server over mean:   ours     by name hash\n");
  double worst_hash = 0;
  for (const int servers : {2, 3, 4, 8, 16}) {
    for (const ModelShapes& model : EveryModel(servers)) {
      const double ours = Imbalance(BytesOfServers(PlanSharding(model.table, model.table.layout())));
      const double hash = Imbalance(BytesByNameHash(model.table));
      std::printf("%-10s %3d servers       %.4f   %.4f\n", model.name.c_str(), servers, ours, hash);
      EXPECT_LE(ours, 1.05) << model.name << " on " << servers;
      worst_hash = std::max(worst_hash, hash);
    }
  }
  EXPECT_GT(worst_hash, 1.5) << "the comparison compares nothing";
}

// What every cut must be, whatever the table.
void CheckCut(const Table& table) {
  const FlatLayout layout = table.layout();
  const Sharding sharding = PlanSharding(table, layout);
  ASSERT_EQ(sharding.of_server.size(), static_cast<size_t>(table.servers));
  int64_t at = 0, of_servers = 0;
  int block = 0;
  for (size_t c = 0; c < sharding.chunks.size(); ++c) {
    const Chunk& chunk = sharding.chunks[c];
    ASSERT_EQ(chunk.range.begin, at);
    ASSERT_EQ(chunk.first_block, block);
    ASSERT_GT(chunk.end_block, chunk.first_block);
    ASSERT_EQ(chunk.range.begin, layout.blocks[chunk.first_block].begin);
    const bool one_block = chunk.end_block == chunk.first_block + 1;
    EXPECT_TRUE(one_block || chunk.range.size() * 4 <= table.chunk_bytes);
    EXPECT_EQ(sharding.chunk_at(chunk.range.begin), static_cast<int>(c));
    EXPECT_EQ(sharding.chunk_at(chunk.range.begin + 1), -1);
    const ElementRange& server = sharding.of_server[chunk.server];
    EXPECT_LE(server.begin, chunk.range.begin);
    EXPECT_GE(server.end, chunk.range.end);
    at = chunk.range.end;
    block = chunk.end_block;
  }
  EXPECT_EQ(at, layout.elements);
  EXPECT_EQ(block, static_cast<int>(layout.blocks.size()));
  for (int server = 0; server < table.servers; ++server) {
    EXPECT_EQ(sharding.of_server[server].begin, of_servers);
    of_servers = sharding.of_server[server].end;
    const auto [first, end] = sharding.chunks_of(server);
    ASSERT_LT(first, end) << "server " << server << " of " << table.servers << " has nothing";
    EXPECT_EQ(sharding.chunks[first].range.begin, sharding.of_server[server].begin);
    EXPECT_EQ(sharding.chunks[end - 1].range.end, sharding.of_server[server].end);
  }
}

TEST(Sharding, CoversEveryElementOnceWhateverTheTable) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Rng rng(seed, RngPurpose::kSynthetic);
    Table table;
    int64_t blocks = 0;
    for (uint64_t tensor = rng.Below(12) + 1; tensor > 0; --tensor) {
      const auto elements = static_cast<int64_t>(1 + rng.Below(rng.Below(2) == 0 ? 100 : 30'000));
      table.entries.push_back({{Cat("t", tensor), DType::kF32, {elements}}, 0});
      blocks += (elements + kBlockElements - 1) / kBlockElements;
    }
    table.servers = static_cast<int>(1 + rng.Below(static_cast<uint64_t>(std::min<int64_t>(blocks, 9))));
    table.chunk_bytes = static_cast<int64_t>(1 + rng.Below(100'000));
    SCOPED_TRACE(seed);
    ASSERT_TRUE(CheckTable(table, 1).ok());
    CheckCut(table);
  }
}

TEST(Sharding, SmallTensorsShareAChunkAndALargeOneIsSplit) {
  Table table{.servers = 1, .chunk_bytes = 2 * kBlockElements * 4};
  for (int i = 0; i < 100; ++i) table.entries.push_back({{Cat("small", i), DType::kF32, {16}}, 0});
  table.entries.push_back({{"large", DType::kF32, {5 * kBlockElements}}, 0});
  const Sharding sharding = PlanSharding(table, table.layout());
  EXPECT_EQ(sharding.chunks.size(), 3u);
  EXPECT_EQ(sharding.chunks[0].end_block, 101);
}

}  // namespace
}  // namespace dtrain::ps
