#include "trainer/report/whole_file.h"

#include <algorithm>
#include <filesystem>

namespace dtrain {
namespace {

StatusOr<std::string> ReadFrom(const ReadableFile& file, uint64_t offset) {
  std::string text(file.bytes() - offset, '\0');
  RETURN_IF_ERROR(file.ReadAt(offset, std::as_writable_bytes(std::span(text))));
  return text;
}

Status WriteAndSync(Storage& storage, const std::string& path, std::string_view text) {
  ASSIGN_OR_RETURN(const auto file, storage.Create(path));
  RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(text))));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

}  // namespace

StatusOr<std::string> ReadWholeFile(const Storage& storage, const std::string& path, uint64_t bytes_max) {
  ASSIGN_OR_RETURN(const auto file, storage.Open(path));
  if (file->bytes() > bytes_max)
    return ResourceExhausted("read ", path, ": it has ", file->bytes(), " bytes, at most ", bytes_max, " are read");
  return ReadFrom(*file, 0);
}

StatusOr<std::string> ReadLastLines(const Storage& storage, const std::string& path, uint64_t bytes_max) {
  ASSIGN_OR_RETURN(const auto file, storage.Open(path));
  const uint64_t offset = file->bytes() - std::min(file->bytes(), bytes_max);
  ASSIGN_OR_RETURN(std::string text, ReadFrom(*file, offset));
  text.erase(text.rfind('\n') + 1);  // npos + 1 is 0: no whole line
  if (offset > 0) text.erase(0, text.find('\n') + 1);
  return text;
}

Status ReplaceFile(Storage& storage, const std::string& path, std::string_view text) {
  const std::string temporary = path + ".tmp";
  if (Status status = WriteAndSync(storage, temporary, text); !status.ok()) {
    storage.RemoveAll(temporary).IgnoreError();  // a full disk needs the space
    return status;
  }
  RETURN_IF_ERROR(storage.Rename(temporary, path));
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return storage.SyncDirectory(folder.empty() ? "." : folder);
}

}  // namespace dtrain
