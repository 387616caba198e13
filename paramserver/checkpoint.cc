#include "paramserver/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "paramserver/durable_file.h"
#include "paramserver/limits.h"

namespace dtrain::ps {
namespace {

constexpr uint32_t kPartMagic = 0x50535044;      // "DPSP"
constexpr uint32_t kManifestMagic = 0x4d535044;  // "DPSM"
constexpr uint16_t kVersion = 1;

std::string PartName(int server, Step step) { return Cat("part-", server, "-", step); }
std::string ManifestName(Step step) { return Cat("manifest-", step); }

StatusOr<std::vector<std::byte>> ReadWhole(const Storage& storage, const std::string& path, uint64_t bytes_max) {
  ASSIGN_OR_RETURN(const auto file, storage.Open(path));
  if (file->bytes() > bytes_max) return DataLoss("read ", path, ": ", file->bytes(), " bytes; expected at most ", bytes_max);
  std::vector<std::byte> bytes(file->bytes());
  RETURN_IF_ERROR(file->ReadAt(0, bytes));
  return bytes;
}

void Floats(const std::vector<float>& values, Encoder& to) { to.Bytes(std::as_bytes(std::span(values))); }

bool Floats(Decoder& from, std::vector<float>* values) {
  const auto bytes = from.Bytes();
  if (!from.ok() || bytes.size() % sizeof(float) != 0) return false;
  values->resize(bytes.size() / sizeof(float));
  if (!bytes.empty()) std::memcpy(values->data(), bytes.data(), bytes.size());
  return true;
}

bool DecodeState(Decoder& in, ShardState* state) {
  if (!DecodeTable(in, &state->table)) return false;
  state->server = static_cast<int>(in.U32());
  state->version = in.I64();
  state->updates = in.I64();
  const uint32_t chunks = in.U32();
  for (uint32_t c = 0; c < chunks && in.ok(); ++c) state->chunk_versions.push_back(in.I64());
  if (!in.ok() || !Floats(in, &state->parameters)) return false;
  const uint8_t slots = in.U8();
  for (int slot = 0; slot < slots; ++slot) {
    if (!Floats(in, &state->slots.emplace_back())) return false;
  }
  return WorkLog::Decode(in, static_cast<int>(chunks), &state->work) && in.Done();
}

std::vector<std::byte> EncodeManifest(const Manifest& manifest) {
  Encoder out;
  out.U32(kManifestMagic);
  out.U16(kVersion);
  out.U64(manifest.job);
  out.I64(manifest.step);
  out.I64(manifest.view);
  out.String(manifest.cursor);
  out.U32(static_cast<uint32_t>(manifest.parts.size()));
  for (const PartInfo& part : manifest.parts) {
    out.U32(static_cast<uint32_t>(part.server));
    out.U64(part.bytes);
    out.U32(part.crc);
  }
  out.U32(Crc32c(out.bytes()));
  return out.Take();
}

StatusOr<Manifest> DecodeManifest(std::span<const std::byte> bytes) {
  const Status damaged = DataLoss("it is damaged");
  if (bytes.size() < 4 || Crc32c(bytes.first(bytes.size() - 4)) != Decoder(bytes.last(4)).U32()) return damaged;
  Decoder in(bytes.first(bytes.size() - 4));
  if (in.U32() != kManifestMagic) return damaged;
  if (const uint16_t version = in.U16(); version != kVersion) return Unimplemented("format ", version, "; this program reads ", kVersion);
  Manifest manifest;
  manifest.job = in.U64();
  manifest.step = in.I64();
  manifest.view = in.I64();
  manifest.cursor = in.String();
  const uint32_t parts = in.U32();
  if (parts < 1 || parts > static_cast<uint32_t>(kServersMax)) return damaged;
  for (uint32_t i = 0; i < parts && in.ok(); ++i) {
    PartInfo& part = manifest.parts.emplace_back();
    part.server = static_cast<int>(in.U32());
    part.bytes = in.U64();
    part.crc = in.U32();
    if (part.server != static_cast<int>(i)) return damaged;
  }
  if (!in.Done() || manifest.step < 0 || manifest.view < 0) return damaged;
  return manifest;
}

// The step in a name that begins with `prefix` and ends with a number.
std::optional<Step> StepOf(const std::string& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  return ParseInt(std::string_view(name).substr(name.rfind('-') + 1));
}

}  // namespace

StatusOr<PartInfo> WritePart(Storage& storage, const std::string& directory, uint64_t job, const ShardState& state) {
  Encoder out;
  out.U32(kPartMagic);
  out.U16(kVersion);
  out.U64(job);
  EncodeTable(state.table, out);
  out.U32(static_cast<uint32_t>(state.server));
  out.I64(state.version);
  out.I64(state.updates);
  out.U32(static_cast<uint32_t>(state.chunk_versions.size()));
  for (const int64_t version : state.chunk_versions) out.I64(version);
  Floats(state.parameters, out);
  out.U8(static_cast<uint8_t>(state.slots.size()));
  for (const auto& slot : state.slots) Floats(slot, out);
  state.work.Encode(out);
  const PartInfo info{state.server, out.bytes().size(), Crc32c(out.bytes())};
  RETURN_IF_ERROR(WriteDurableFile(storage, directory, PartName(state.server, state.version), out.bytes()));
  return info;
}

StatusOr<ShardState> ReadPart(const Storage& storage, const std::string& directory, uint64_t job, Step step, const PartInfo& info) {
  const std::string path = Cat(directory, "/", PartName(info.server, step));
  ASSIGN_OR_RETURN(const auto bytes, ReadWhole(storage, path, info.bytes));
  const auto wrong = [&](const auto&... parts) { return DataLoss("read ", path, ": ", parts...); };
  if (bytes.size() != info.bytes) return wrong(bytes.size(), " bytes; the manifest says ", info.bytes);
  if (Crc32c(bytes) != info.crc) return wrong("its checksum is not the manifest's");
  Decoder in(bytes);
  if (in.U32() != kPartMagic) return wrong("it is no part of a checkpoint");
  if (const uint16_t version = in.U16(); version != kVersion)
    return Unimplemented("read ", path, ": format ", version, "; this program reads ", kVersion);
  if (in.U64() != job) return FailedPrecondition("read ", path, ": it is another job's");
  ShardState state;
  if (!DecodeState(in, &state)) return wrong("its contents contradict each other");
  if (state.server != info.server || state.version != step) {
    return wrong("it is server ", state.server, "'s of step ", state.version, "; expected server ", info.server, "'s of step ", step);
  }
  return state;
}

Status WriteManifest(Storage& storage, const std::string& directory, const Manifest& manifest) {
  const auto bytes = EncodeManifest(manifest);
  if (bytes.size() > kManifestBytesMax) {
    return ResourceExhausted("write the manifest of step ", manifest.step, ": ", bytes.size(), " bytes; expected at most ",
                             kManifestBytesMax);
  }
  return WriteDurableFile(storage, directory, ManifestName(manifest.step), bytes);
}

StatusOr<std::optional<Manifest>> NewestManifest(const Storage& storage, const std::string& directory, uint64_t job) {
  const auto names = storage.List(directory);
  if (names.status().code() == StatusCode::kNotFound) return std::optional<Manifest>();
  RETURN_IF_ERROR(names.status());
  std::vector<Step> steps;
  for (const std::string& name : *names) {
    if (const auto step = StepOf(name, "manifest-")) steps.push_back(*step);
  }
  std::ranges::sort(steps, std::greater());
  bool other_job = false;
  for (const Step step : steps) {
    const std::string path = Cat(directory, "/", ManifestName(step));
    const auto bytes = ReadWhole(storage, path, kManifestBytesMax);
    const auto manifest = bytes.ok() ? DecodeManifest(*bytes) : bytes.status();
    if (!manifest.ok() || manifest->step != step) {
      Log(LogLevel::kWarning, Cat("pass over ", path, ": ", manifest.ok() ? "it names another step" : dtrain::Message(manifest.status())));
    } else if (manifest->job != job) {
      other_job = true;
    } else {
      return std::optional<Manifest>(*manifest);
    }
  }
  if (other_job) return FailedPrecondition("look for a checkpoint in ", directory, ": what is there is another job's");
  return std::optional<Manifest>();
}

Status RemoveBefore(Storage& storage, const std::string& directory, Step step) {
  ASSIGN_OR_RETURN(const auto names, storage.List(directory));
  for (const std::string& name : names) {
    const auto of_name = StepOf(name, "manifest-") ? StepOf(name, "manifest-") : StepOf(name, "part-");
    if (of_name && *of_name < step) RETURN_IF_ERROR(storage.RemoveAll(Cat(directory, "/", name)));
  }
  return OkStatus();
}

StatusOr<std::vector<ShardState>> Reshard(const std::vector<ShardState>& parts, int servers) {
  const auto wrong = [&](const auto&... why) { return FailedPrecondition("cut a checkpoint over ", servers, " servers: ", why...); };
  if (parts.empty() || parts.size() != static_cast<size_t>(parts[0].table.servers)) {
    return wrong(parts.size(), " parts; expected ", parts.empty() ? 1 : parts[0].table.servers);
  }
  std::vector<float> parameters;
  std::vector<std::vector<float>> slots(parts[0].slots.size());
  const int64_t chunk_version = parts[0].chunk_versions.empty() ? 0 : parts[0].chunk_versions[0];
  for (size_t server = 0; server < parts.size(); ++server) {
    const ShardState& part = parts[server];
    if (part.table != parts[0].table || part.version != parts[0].version || part.updates != parts[0].updates ||
        part.slots.size() != slots.size() || part.server != static_cast<int>(server)) {
      return wrong("part ", server, " is not of the same step, table and optimizer as part 0");
    }
    // Asynchronous chunks count for themselves; chunks of another cut could not say which leases are in them.
    const auto recut = part.work.Recut(0);
    if (!std::ranges::all_of(part.chunk_versions, [&](int64_t version) { return version == chunk_version; }) || !recut ||
        !(*recut == *parts[0].work.Recut(0))) {
      return wrong("part ", server, " was taken while asynchronous updates were under way");
    }
    parameters.insert(parameters.end(), part.parameters.begin(), part.parameters.end());
    for (size_t slot = 0; slot < slots.size(); ++slot)
      slots[slot].insert(slots[slot].end(), part.slots[slot].begin(), part.slots[slot].end());
  }
  Table table = parts[0].table;
  table.servers = servers;
  ++table.version;
  RETURN_IF_ERROR(CheckTable(table, kGroupsMax));
  const FlatLayout layout = table.layout();
  if (parameters.size() != static_cast<size_t>(layout.elements))
    return wrong(parameters.size(), " parameters; the table has ", layout.elements);
  const Sharding sharding = PlanSharding(table, layout);
  std::vector<ShardState> cut;
  for (int server = 0; server < servers; ++server) {
    const ElementRange range = sharding.of_server[static_cast<size_t>(server)];
    const auto [first, end] = sharding.chunks_of(server);
    const auto part = [&](const std::vector<float>& flat) {
      return std::vector<float>(flat.begin() + range.begin, flat.begin() + range.end);
    };
    ShardState& state =
        cut.emplace_back(ShardState{.table = table, .server = server, .version = parts[0].version, .updates = parts[0].updates});
    state.chunk_versions.assign(static_cast<size_t>(end - first), chunk_version);
    state.parameters = part(parameters);
    for (const auto& slot : slots) state.slots.push_back(part(slot));
    state.work = *parts[0].work.Recut(end - first);
  }
  return cut;
}

}  // namespace dtrain::ps
