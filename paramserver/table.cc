#include "paramserver/table.h"

#include <unordered_set>

#include "paramserver/limits.h"

namespace dtrain::ps {

FlatLayout Table::layout() const {
  std::vector<TensorInfo> tensors;
  std::vector<int> groups;
  for (const TableEntry& entry : entries) {
    tensors.push_back(entry.info);
    groups.push_back(entry.group);
  }
  return MakeFlatLayout(tensors, groups);
}

Status CheckTable(const Table& table, int groups) {
  const auto wrong = [](const auto&... parts) { return InvalidArgument("register the parameter table: ", parts...); };
  const auto count = static_cast<int64_t>(table.entries.size());
  if (count < 1 || count > kTensorsMax) return wrong(count, " tensors; expected 1 to ", kTensorsMax);
  if (table.version < 1) return wrong("version 0; expected 1 or more");
  if (table.chunk_bytes < 1 || table.chunk_bytes > kChunkBytesMax) {
    return wrong("chunks of ", table.chunk_bytes, " bytes; expected 1 to ", kChunkBytesMax);
  }
  std::unordered_set<std::string_view> names;
  int64_t elements = 0, blocks = 0;
  for (int64_t i = 0; i < count; ++i) {
    const TableEntry& entry = table.entries[i];
    const auto wrong_entry = [&](const auto&... parts) { return wrong("tensor ", i, " ('", entry.info.name, "') ", parts...); };
    if (entry.info.name.empty() || entry.info.name.size() > kNameBytesMax) {
      return wrong_entry("has a name of ", entry.info.name.size(), " bytes; expected 1 to ", kNameBytesMax);
    }
    if (!names.insert(entry.info.name).second) return wrong_entry("stands twice; expected each name once");
    if (entry.info.dtype != DType::kF32) {
      return wrong_entry("is ", SafetensorsName(entry.info.dtype), "; expected F32, the type that a server can sum");
    }
    if (entry.group < 0 || entry.group >= groups) return wrong_entry("is in group ", entry.group, "; expected 0 to ", groups - 1);
    if (entry.info.shape.size() > kDimensionsMax) {
      return wrong_entry("has ", entry.info.shape.size(), " dimensions; expected at most ", kDimensionsMax);
    }
    int64_t of_tensor = 1;
    for (const int64_t size : entry.info.shape) {
      if (size < 1) return wrong_entry("has shape ", ShapeText(entry.info.shape), "; expected sizes of at least 1");
      if (size > kElementsMax / of_tensor) return wrong_entry("is larger than all tensors may be together, ", kElementsMax, " elements");
      of_tensor *= size;
    }
    elements += of_tensor;
    if (elements > kElementsMax) return wrong_entry("makes more than ", kElementsMax, " elements in all");
    blocks += (of_tensor + kBlockElements - 1) / kBlockElements;
  }
  if (table.servers < 1 || table.servers > kServersMax) return wrong(table.servers, " servers; expected 1 to ", kServersMax);
  if (table.servers > blocks) {
    return WithHint(wrong(table.servers, " servers for ", blocks, " blocks of parameters; expected a block at least for each"),
                    Cat("use ", blocks, " servers or fewer"));
  }
  return OkStatus();
}

Status CompareTensors(const Table& expected, const Table& found) {
  const auto differs = [](const auto&... parts) {
    return WithHint(FailedPrecondition("join the parameter table: ", parts...), "all workers of a job must build the same model");
  };
  for (size_t i = 0; i < expected.entries.size() && i < found.entries.size(); ++i) {
    const TableEntry &ours = expected.entries[i], &theirs = found.entries[i];
    if (ours.info.name != theirs.info.name)
      return differs("tensor ", i, " is '", theirs.info.name, "'; the table has '", ours.info.name, "'");
    if (ours.info != theirs.info) {
      return differs("tensor ", i, " is '", theirs.info.name, "' ", TypeAndShapeText(theirs.info), "; the table has ",
                     TypeAndShapeText(ours.info));
    }
    if (ours.group != theirs.group) {
      return differs("tensor ", i, " ('", theirs.info.name, "') is in group ", theirs.group, "; the table has it in ", ours.group);
    }
  }
  if (expected.entries.size() != found.entries.size()) {
    return differs(found.entries.size(), " tensors; the table has ", expected.entries.size());
  }
  return OkStatus();
}

void EncodeTable(const Table& table, Encoder& to) {
  to.U32(table.version);
  to.U32(static_cast<uint32_t>(table.servers));
  to.I64(table.chunk_bytes);
  to.U32(static_cast<uint32_t>(table.entries.size()));
  for (const TableEntry& entry : table.entries) {
    to.String(entry.info.name);
    to.U8(static_cast<uint8_t>(entry.info.dtype));
    to.U8(static_cast<uint8_t>(entry.info.shape.size()));
    for (const int64_t size : entry.info.shape) to.I64(size);
    to.U32(static_cast<uint32_t>(entry.group));
  }
}

bool DecodeTable(Decoder& from, Table* table) {
  table->version = from.U32();
  const uint32_t servers = from.U32();
  table->chunk_bytes = from.I64();
  const uint32_t count = from.U32();
  if (!from.ok() || servers > kServersMax || count > kTensorsMax) return false;
  table->servers = static_cast<int>(servers);
  table->entries.clear();
  for (uint32_t i = 0; i < count; ++i) {
    TableEntry& entry = table->entries.emplace_back();
    entry.info.name = from.String();
    const uint8_t dtype = from.U8(), dimensions = from.U8();
    // Asked inside the loop: a count may claim more than the bytes hold.
    if (!from.ok() || entry.info.name.size() > kNameBytesMax || dtype > static_cast<uint8_t>(DType::kBool) || dimensions > kDimensionsMax) {
      return false;
    }
    entry.info.dtype = static_cast<DType>(dtype);
    for (int d = 0; d < dimensions; ++d) entry.info.shape.push_back(from.I64());
    const uint32_t group = from.U32();
    if (group >= kGroupsMax) return false;
    entry.group = static_cast<int>(group);
  }
  return from.ok();
}

}  // namespace dtrain::ps
