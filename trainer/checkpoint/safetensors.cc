#include "trainer/checkpoint/safetensors.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "base/codec.h"
#include "base/value.h"
#include "trainer/checkpoint/json_value.h"

namespace dtrain {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kHeaderBytesMax = 100'000'000;  // as the reference implementation
constexpr uint64_t kDataAlignment = 64;
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr DType kDTypes[] = {DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI64, DType::kI32, DType::kU8, DType::kBool};

std::optional<DType> DTypeNamed(std::string_view name) {
  for (const DType dtype : kDTypes) {
    if (SafetensorsName(dtype) == name) return dtype;
  }
  return std::nullopt;
}

std::string DTypeNames() {
  std::vector<std::string> names;
  for (const DType dtype : kDTypes) names.emplace_back(SafetensorsName(dtype));
  return Join(names, ", ");
}

// Bytes of a tensor; nothing if a size is negative or the product does not fit 63 bits.
std::optional<uint64_t> BytesOf(const TensorInfo& info) {
  int64_t bytes = ElementBytes(info.dtype);
  for (const int64_t size : info.shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  return static_cast<uint64_t>(bytes);
}

std::string JsonString(const std::string& text) { return Value(text).ToJson(); }

// An integer that is not negative; nothing for any other value.
std::optional<uint64_t> Unsigned(const Value& value) {
  const int64_t* number = value.if_int();
  if (number == nullptr || *number < 0) return std::nullopt;
  return static_cast<uint64_t>(*number);
}

// One entry of the header; its offsets count from the file's begin afterwards.
StatusOr<SafetensorsEntry> ParseEntry(const std::string& name, const Value& description, uint64_t data_begin, uint64_t data_bytes) {
  const auto wrong = [&](const auto&... parts) { return DataLoss("tensor \"", name, "\": ", parts...); };
  const Value::Map* map = description.if_map();
  if (map == nullptr) return wrong("expected a map with dtype, shape and data_offsets");
  for (const auto& [key, value] : *map) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") return wrong("unknown key \"", key, "\"");
  }

  SafetensorsEntry entry{.info = {.name = name}};
  const std::string* dtype_name = description.At("dtype").if_string();
  if (dtype_name == nullptr) return wrong("has no dtype");
  const auto dtype = DTypeNamed(*dtype_name);
  if (!dtype) return Unimplemented("tensor \"", name, "\": the dtype \"", *dtype_name, "\" is unknown; dtrain has ", DTypeNames());
  entry.info.dtype = *dtype;

  const Value::List* shape = description.At("shape").if_list();
  if (shape == nullptr) return wrong("has no shape");
  for (const Value& size : *shape) {
    const auto number = Unsigned(size);
    if (!number) return wrong("its shape holds ", size.ToJson(), ", expected sizes from 0");
    entry.info.shape.push_back(static_cast<int64_t>(*number));
  }
  const auto bytes = BytesOf(entry.info);
  if (!bytes) return wrong("its shape ", description.At("shape").ToJson(), " has more bytes than fit 63 bits");

  const Value::List* offsets = description.At("data_offsets").if_list();
  const auto begin = offsets != nullptr && offsets->size() == 2 ? Unsigned((*offsets)[0]) : std::nullopt;
  const auto end = offsets != nullptr && offsets->size() == 2 ? Unsigned((*offsets)[1]) : std::nullopt;
  if (!begin || !end || *begin > *end)
    return wrong("data_offsets are ", description.At("data_offsets").ToJson(), ", expected [begin, end]");
  if (*end > data_bytes) return wrong("ends at byte ", *end, " of the data, but the file holds only ", data_bytes);
  if (*end - *begin != *bytes) {
    return wrong("has ", *end - *begin, " bytes, but ", *dtype_name, " of shape ", description.At("shape").ToJson(), " takes ", *bytes);
  }
  entry.begin = data_begin + *begin;
  entry.end = data_begin + *end;
  return entry;
}

StatusOr<SafetensorsMetadata> ParseMetadata(const Value& value) {
  const Value::Map* map = value.if_map();
  if (map == nullptr) return DataLoss(kMetadataKey, " is not a map");
  SafetensorsMetadata metadata;
  for (const auto& [key, text] : *map) {
    if (text.if_string() == nullptr) return DataLoss(kMetadataKey, ": the value of \"", key, "\" is not a text");
    metadata.emplace(key, *text.if_string());
  }
  return metadata;
}

// The tensors fill the data without overlap and without gap.
Status CheckCoverage(const SafetensorsHeader& header, uint64_t data_begin, uint64_t file_bytes) {
  std::vector<const SafetensorsEntry*> by_place;
  for (const SafetensorsEntry& entry : header.entries) by_place.push_back(&entry);
  std::sort(by_place.begin(), by_place.end(),
            [](const auto* a, const auto* b) { return std::pair(a->begin, a->end) < std::pair(b->begin, b->end); });
  uint64_t covered = data_begin;
  for (const SafetensorsEntry* entry : by_place) {
    if (entry->begin < covered) return DataLoss("tensor \"", entry->info.name, "\" overlaps the one before it");
    if (entry->begin > covered)
      return DataLoss("no tensor owns the ", entry->begin - covered, " bytes before tensor \"", entry->info.name, "\"");
    covered = entry->end;
  }
  if (covered != file_bytes) return DataLoss("no tensor owns the last ", file_bytes - covered, " bytes of the file");
  return OkStatus();
}

}  // namespace

Status WriteSafetensors(WritableFile& file, std::span<const TensorView> tensors, const SafetensorsMetadata& metadata) {
  std::vector<const TensorView*> ordered;
  for (const TensorView& tensor : tensors) {
    const auto bytes = BytesOf(tensor.info);
    if (!bytes || *bytes != tensor.bytes.size()) {
      return InvalidArgument("write tensor \"", tensor.info.name, "\": ", tensor.bytes.size(), " bytes do not fit its shape");
    }
    if (tensor.info.name == kMetadataKey) return InvalidArgument("write tensor \"", kMetadataKey, "\": the format reserves that name");
    ordered.push_back(&tensor);
  }
  std::sort(ordered.begin(), ordered.end(), [](const TensorView* a, const TensorView* b) {
    const int64_t a_bytes = ElementBytes(a->info.dtype), b_bytes = ElementBytes(b->info.dtype);
    return a_bytes != b_bytes ? a_bytes > b_bytes : a->info.name < b->info.name;
  });

  std::string header = "{";
  if (!metadata.empty()) {
    header += Cat(JsonString(std::string(kMetadataKey)), ":{");
    for (const auto& [key, text] : metadata) header += Cat(header.back() == '{' ? "" : ",", JsonString(key), ":", JsonString(text));
    header += '}';
  }
  uint64_t offset = 0;
  for (const TensorView* tensor : ordered) {
    header += Cat(header.size() == 1 ? "" : ",", JsonString(tensor->info.name), ":{\"dtype\":\"", SafetensorsName(tensor->info.dtype),
                  "\",\"shape\":[");
    for (size_t i = 0; i < tensor->info.shape.size(); ++i) header += Cat(i == 0 ? "" : ",", tensor->info.shape[i]);
    header += Cat("],\"data_offsets\":[", offset, ",", offset + tensor->bytes.size(), "]}");
    offset += tensor->bytes.size();
  }
  header += '}';
  // What no reader would accept (a name twice or not UTF-8, a header too long) must not get onto the disk.
  RETURN_IF_ERROR(Annotate(ParseJson(header, {.bytes_max = kHeaderBytesMax - kDataAlignment, .values_max = INT64_MAX}).status(),
                           "write safetensors header"));
  while ((kLengthBytes + header.size()) % kDataAlignment != 0) header += ' ';

  Encoder length;
  length.U64(header.size());
  RETURN_IF_ERROR(file.Append(length.bytes()));
  RETURN_IF_ERROR(file.Append(std::as_bytes(std::span(header))));
  for (const TensorView* tensor : ordered) RETURN_IF_ERROR(file.Append(tensor->bytes));
  return OkStatus();
}

StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const ReadableFile& file) {
  if (file.bytes() < kLengthBytes)
    return DataLoss("the file has ", file.bytes(), " bytes, a safetensors file has at least ", kLengthBytes + 2);
  std::vector<std::byte> length_bytes(kLengthBytes);
  RETURN_IF_ERROR(file.ReadAt(0, length_bytes));
  const uint64_t header_bytes = Decoder(length_bytes).U64();
  if (header_bytes > kHeaderBytesMax)
    return DataLoss("the header's length is ", header_bytes, " bytes, at most ", kHeaderBytesMax, " are read");
  if (header_bytes > file.bytes() - kLengthBytes) {
    return DataLoss("the header's length is ", header_bytes, " bytes, but the file holds only ", file.bytes(), " in all");
  }
  std::string text(header_bytes, '\0');
  RETURN_IF_ERROR(file.ReadAt(kLengthBytes, std::as_writable_bytes(std::span(text))));
  if (!text.starts_with('{')) return DataLoss("the header does not begin with '{'");
  // 8 million values are about 800,000 tensors.
  const auto parsed = ParseJson(text, {.bytes_max = kHeaderBytesMax, .depth_max = 3, .values_max = 8'000'000});
  if (!parsed.ok()) return DataLoss("the header: ", Message(parsed.status()));

  const uint64_t data_begin = kLengthBytes + header_bytes;
  SafetensorsHeader header;
  for (const auto& [name, description] : *parsed->if_map()) {
    if (name == kMetadataKey) {
      ASSIGN_OR_RETURN(header.metadata, ParseMetadata(description));
    } else {
      ASSIGN_OR_RETURN(auto entry, ParseEntry(name, description, data_begin, file.bytes() - data_begin));
      header.entries.push_back(std::move(entry));
    }
  }
  RETURN_IF_ERROR(CheckCoverage(header, data_begin, file.bytes()));
  return header;
}

StatusOr<SafetensorsContents> ReadSafetensors(const ReadableFile& file) {
  ASSIGN_OR_RETURN(SafetensorsHeader header, ReadSafetensorsHeader(file));
  SafetensorsContents contents{.metadata = std::move(header.metadata)};
  for (SafetensorsEntry& entry : header.entries) {
    HostTensor tensor{.info = std::move(entry.info), .bytes = std::vector<std::byte>(entry.end - entry.begin)};
    RETURN_IF_ERROR(file.ReadAt(entry.begin, tensor.bytes));
    if (tensor.info.dtype == DType::kBool) {
      for (const std::byte value : tensor.bytes) {
        if (value > std::byte{1})
          return DataLoss("tensor \"", tensor.info.name, "\": holds ", static_cast<int>(value), ", a BOOL is 0 or 1");
      }
    }
    contents.tensors.push_back(std::move(tensor));
  }
  return contents;
}

}  // namespace dtrain
