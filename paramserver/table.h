// The parameter table: what a server knows of a model. Rank 0 registers it, all others are checked against it. It also
// says how the parameters are cut over the servers, so that its version names one way of cutting.
// Pure values; safe from any thread.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/codec.h"
#include "base/flat_layout.h"
#include "base/status.h"

namespace dtrain::ps {

struct TableEntry {
  TensorInfo info;
  int group = 0;  // parameter group: index into the optimizer's groups
  bool operator==(const TableEntry&) const = default;
};

struct Table {
  uint32_t version = 1;             // rises when the tensors stay and the cut changes
  int servers = 1;                  // the parameters are cut over servers 0..servers-1
  int64_t chunk_bytes = 1 << 20;    // largest payload of one push or pull, unless one block is larger
  std::vector<TableEntry> entries;  // in flat order
  bool operator==(const Table&) const = default;

  FlatLayout layout() const;
};

// The table within its limits (limits.h): at least one tensor, all float32, names unique, at least one block a server.
// kInvalidArgument says which entry is at fault. `groups` is how many parameter groups there are.
Status CheckTable(const Table& table, int groups);

// OK if `found` has the tensors of `expected`, whatever their cut; otherwise kFailedPrecondition with the first
// difference: "tensor 3 is 'fc2.weight' F32 (10, 64); the table has F32 (10, 32)".
Status CompareTensors(const Table& expected, const Table& found);

void EncodeTable(const Table& table, Encoder& to);
// False if a field lies outside its limit. What was read still needs CheckTable.
bool DecodeTable(Decoder& from, Table* table);

}  // namespace dtrain::ps
