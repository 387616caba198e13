// Goal: a table that a server cannot serve is refused before anything is allocated, and a worker with another model is told
// where it differs. Method: one fault at a time.
#include "paramserver/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "paramserver/limits.h"

namespace dtrain::ps {
namespace {

using testing::HasSubstr;

Table Good() {
  Table table{.servers = 2};
  table.entries = {{{"fc.bias", DType::kF32, {10}}, 1}, {{"fc.weight", DType::kF32, {10, 64}}, 0}};
  return table;
}

TEST(Table, AGoodOneIsTaken) { EXPECT_TRUE(CheckTable(Good(), 2).ok()); }

TEST(Table, EachFaultIsNamed) {
  const auto fault = [](auto change) {
    Table table = Good();
    change(table);
    const Status status = CheckTable(table, 2);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return Message(status);
  };
  EXPECT_THAT(fault([](Table& t) { t.entries.clear(); }), HasSubstr("0 tensors; expected 1"));
  EXPECT_THAT(fault([](Table& t) { t.entries[1].info.name = "fc.bias"; }), HasSubstr("tensor 1 ('fc.bias') stands twice"));
  EXPECT_THAT(fault([](Table& t) { t.entries[1].info.name = ""; }), HasSubstr("a name of 0 bytes"));
  EXPECT_THAT(fault([](Table& t) { t.entries[1].info.name = std::string(5'000, 'x'); }), HasSubstr("a name of 5000 bytes"));
  EXPECT_THAT(fault([](Table& t) { t.entries[0].info.dtype = DType::kF64; }), HasSubstr("is F64; expected F32"));
  EXPECT_THAT(fault([](Table& t) { t.entries[0].group = 2; }), HasSubstr("is in group 2; expected 0 to 1"));
  EXPECT_THAT(fault([](Table& t) { t.entries[0].group = -1; }), HasSubstr("is in group -1"));
  EXPECT_THAT(fault([](Table& t) { t.entries[0].info.shape = {0}; }), HasSubstr("has shape (0)"));
  EXPECT_THAT(fault([](Table& t) { t.entries[0].info.shape = {-3, 5}; }), HasSubstr("expected sizes of at least 1"));
  // A product that overflows 64 bits is not taken for a small one.
  EXPECT_THAT(fault([](Table& t) { t.entries[0].info.shape = {int64_t{1} << 33, int64_t{1} << 33}; }), HasSubstr("is larger than"));
  EXPECT_THAT(fault([](Table& t) { t.entries[0].info.shape = std::vector<int64_t>(17, 1); }), HasSubstr("17 dimensions"));
  EXPECT_THAT(fault([](Table& t) {
                t.entries.assign(3, {{"a", DType::kF32, {kElementsMax / 2}}, 0});
                t.entries[1].info.name = "b";
                t.entries[2].info.name = "c";
              }),
              HasSubstr("makes more than"));
  EXPECT_THAT(fault([](Table& t) { t.servers = 0; }), HasSubstr("0 servers"));
  EXPECT_THAT(fault([](Table& t) { t.servers = 3; }), HasSubstr("3 servers for 2 blocks"));
  EXPECT_THAT(fault([](Table& t) { t.chunk_bytes = 0; }), HasSubstr("chunks of 0 bytes"));
  EXPECT_THAT(fault([](Table& t) { t.chunk_bytes = kChunkBytesMax + 1; }), HasSubstr("chunks of 16777217 bytes"));
  EXPECT_THAT(fault([](Table& t) { t.version = 0; }), HasSubstr("version 0"));
}

TEST(Table, TheFirstDifferenceBetweenModelsIsNamed) {
  const auto difference = [](auto change) {
    Table table = Good();
    change(table);
    return Message(CompareTensors(Good(), table));
  };
  EXPECT_THAT(difference([](Table& t) { t.entries[1].info.name = "fc1.weight"; }),
              HasSubstr("tensor 1 is 'fc1.weight'; the table has 'fc.weight'"));
  EXPECT_THAT(difference([](Table& t) { t.entries[1].info.shape = {10, 32}; }), HasSubstr("F32 (10, 32); the table has F32 (10, 64)"));
  EXPECT_THAT(difference([](Table& t) { t.entries[1].group = 1; }), HasSubstr("group 1; the table has it in 0"));
  EXPECT_THAT(difference([](Table& t) { t.entries.pop_back(); }), HasSubstr("1 tensors; the table has 2"));
  Table recut = Good();
  recut.servers = 1;
  recut.version = 9;
  EXPECT_TRUE(CompareTensors(Good(), recut).ok()) << "another cut is the same model";
}

}  // namespace
}  // namespace dtrain::ps
