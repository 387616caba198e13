// The manifest of a checkpoint directory: every file's size and CRC32C, written last. A directory whose manifest holds
// is complete; any other one is not a checkpoint. Layout: docs/checkpoint_format.md.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/status.h"
#include "base/storage.h"
#include "base/view.h"

namespace dtrain {

inline constexpr std::string_view kManifestFile = "manifest.json";

struct ManifestFile {
  uint64_t bytes = 0;
  uint32_t crc32c = 0;
  bool operator==(const ManifestFile&) const = default;
};

struct Manifest {
  Step step = 0;
  std::map<std::string, ManifestFile> files;
  bool operator==(const Manifest&) const = default;
};

// JSON that ends in a checksum of itself: the text before its last line, which is `"crc32c": "xxxxxxxx"}`.
std::string EncodeManifest(const Manifest& manifest);

// kDataLoss for a text that EncodeManifest did not write. kFailedPrecondition for one that a newer dtrain wrote: its
// own checksum holds, but its format version is above ours.
StatusOr<Manifest> DecodeManifest(std::string_view text);

// The manifest in `directory`. kDataLoss if there is none; else as DecodeManifest.
StatusOr<Manifest> ReadManifest(const Storage& storage, const std::string& directory);

// Whether `directory` holds the files that `manifest` lists. kDataLoss says which is missing, short, long or changed.
Status CheckFileSizes(const Storage& storage, const std::string& directory, const Manifest& manifest);     // fast
Status CheckFileContents(const Storage& storage, const std::string& directory, const Manifest& manifest);  // reads everything

// Writes one file and learns its size and checksum on the way.
class ChecksummedFile final : public WritableFile {
 public:
  explicit ChecksummedFile(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  Status Append(std::span<const std::byte> bytes) override;
  Status Sync() override { return file_->Sync(); }
  Status Close() override { return file_->Close(); }
  const ManifestFile& written() const { return written_; }

 private:
  const std::unique_ptr<WritableFile> file_;
  ManifestFile written_;
};

}  // namespace dtrain
