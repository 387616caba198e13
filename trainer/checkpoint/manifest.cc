#include "trainer/checkpoint/manifest.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <vector>

#include "base/crc32c.h"
#include "base/value.h"
#include "trainer/checkpoint/json_value.h"

namespace dtrain {
namespace {

constexpr int64_t kFormatVersion = 1;
constexpr uint64_t kManifestBytesMax = 1 << 20;
constexpr size_t kChunkBytes = 1 << 20;  // stays in the second-level cache between checksum and write

std::string Hex8(uint32_t number) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", number);
  return text;
}

std::string SealOf(std::string_view body) { return Cat("\"crc32c\": \"", Hex8(Crc32c(std::as_bytes(std::span(body)))), "\"}\n"); }

// 8 lower-case hexadecimal digits as a number; upper case would let a flipped bit pass.
std::optional<uint32_t> ParseHex8(const Value& value) {
  const std::string* text = value.if_string();
  uint32_t number = 0;
  if (text == nullptr || std::from_chars(text->data(), text->data() + text->size(), number, 16).ec != std::errc()) return std::nullopt;
  return Hex8(number) == *text ? std::optional(number) : std::nullopt;
}

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  std::string body = Cat("{\"format_version\": ", kFormatVersion, ", \"step\": ", manifest.step, ", \"files\": {");
  for (const auto& [name, file] : manifest.files) {
    body += Cat(body.back() == '{' ? "\n" : ",\n", Value(name).ToJson(), ": {\"bytes\": ", file.bytes, ", \"crc32c\": \"",
                Hex8(file.crc32c), "\"}");
  }
  body += "},\n";
  return body + SealOf(body);
}

StatusOr<Manifest> DecodeManifest(std::string_view text) {
  const size_t seal_bytes = SealOf("").size();
  const size_t body_bytes = text.size() < seal_bytes ? 0 : text.size() - seal_bytes;
  if (text.substr(body_bytes) != SealOf(text.substr(0, body_bytes))) {
    return DataLoss(kManifestFile, " is cut or damaged (its last line does not hold its checksum)");
  }
  const auto parsed = ParseJson(text);
  if (!parsed.ok()) return DataLoss(kManifestFile, ": ", Message(parsed.status()));
  const int64_t* version = parsed->At("format_version").if_int();
  if (version == nullptr) return DataLoss(kManifestFile, " has no format_version");
  if (*version > kFormatVersion) {
    return WithHint(FailedPrecondition(kManifestFile, " has format version ", *version, ", this dtrain reads up to ", kFormatVersion),
                    "use the dtrain that wrote it, or a newer one");
  }
  Manifest manifest;
  const int64_t* step = parsed->At("step").if_int();
  const Value::Map* files = parsed->At("files").if_map();
  if (*version < 1 || step == nullptr || *step < 0 || files == nullptr) return DataLoss(kManifestFile, " has no step or no files");
  manifest.step = *step;
  for (const auto& [name, description] : *files) {
    const int64_t* bytes = description.At("bytes").if_int();
    const auto crc32c = ParseHex8(description.At("crc32c"));
    // A name is one of a file in this very directory.
    if (bytes == nullptr || *bytes < 0 || !crc32c || name.empty() || name[0] == '.' || name.find('/') != std::string::npos) {
      return DataLoss(kManifestFile, ": the entry of \"", name, "\" is not valid");
    }
    manifest.files[name] = {.bytes = static_cast<uint64_t>(*bytes), .crc32c = *crc32c};
  }
  return manifest;
}

StatusOr<Manifest> ReadManifest(const Storage& storage, const std::string& directory) {
  const auto file = storage.Open(Cat(directory, "/", kManifestFile));
  if (file.status().code() == StatusCode::kNotFound) return DataLoss("it has no ", kManifestFile, ", so it was never complete");
  if (!file.ok()) return file.status();
  if ((*file)->bytes() > kManifestBytesMax)
    return DataLoss(kManifestFile, " has ", (*file)->bytes(), " bytes, at most ", kManifestBytesMax, " are read");
  std::string text((*file)->bytes(), '\0');
  RETURN_IF_ERROR((*file)->ReadAt(0, std::as_writable_bytes(std::span(text))));
  return DecodeManifest(text);
}

namespace {

// The file, if it is as long as the manifest says.
StatusOr<std::unique_ptr<ReadableFile>> OpenListed(const Storage& storage, const std::string& directory, const std::string& name,
                                                   const ManifestFile& listed) {
  auto file = storage.Open(Cat(directory, "/", name));
  if (file.status().code() == StatusCode::kNotFound) return DataLoss(name, " is missing");
  if (!file.ok()) return file.status();
  const uint64_t found = (*file)->bytes();
  if (found < listed.bytes)
    return DataLoss(name, " is ", listed.bytes - found, " bytes short (found ", found, ", manifest says ", listed.bytes, ")");
  if (found > listed.bytes)
    return DataLoss(name, " is ", found - listed.bytes, " bytes too long (found ", found, ", manifest says ", listed.bytes, ")");
  return file;
}

}  // namespace

Status CheckFileSizes(const Storage& storage, const std::string& directory, const Manifest& manifest) {
  for (const auto& [name, listed] : manifest.files) RETURN_IF_ERROR(OpenListed(storage, directory, name, listed).status());
  return OkStatus();
}

Status CheckFileContents(const Storage& storage, const std::string& directory, const Manifest& manifest) {
  std::vector<std::byte> chunk(kChunkBytes);
  for (const auto& [name, listed] : manifest.files) {
    ASSIGN_OR_RETURN(const auto file, OpenListed(storage, directory, name, listed));
    uint32_t crc32c = 0;
    for (uint64_t offset = 0; offset < listed.bytes;) {
      const auto part = std::span(chunk).first(std::min<uint64_t>(chunk.size(), listed.bytes - offset));
      RETURN_IF_ERROR(file->ReadAt(offset, part));
      crc32c = Crc32c(part, crc32c);
      offset += part.size();
    }
    if (crc32c != listed.crc32c) {
      return DataLoss(name, " is not what was written (found CRC32C ", Hex8(crc32c), ", manifest says ", Hex8(listed.crc32c), ")");
    }
  }
  return OkStatus();
}

Status ChecksummedFile::Append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), kChunkBytes));
    written_.crc32c = Crc32c(part, written_.crc32c);
    written_.bytes += part.size();
    RETURN_IF_ERROR(file_->Append(part));
    bytes = bytes.subspan(part.size());
  }
  return OkStatus();
}

}  // namespace dtrain
