#include "trainer/storage/posix_storage.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "trainer/storage/posix_error.h"

namespace dtrain {
namespace {

// Repeats a call for as long as a signal interrupts it.
template <typename Call>
auto Retry(const Call& call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() { Close(); }
  int number() const { return number_; }
  // 0 or the errno. Not repeated when interrupted: on Linux the descriptor is gone then.
  int Close() {
    const int number = std::exchange(number_, -1);
    return number < 0 || ::close(number) == 0 || errno == EINTR ? 0 : errno;
  }

 private:
  int number_;
};

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(std::string path, Descriptor descriptor) : path_(std::move(path)), descriptor_(std::move(descriptor)) {}

  Status Append(std::span<const std::byte> bytes) override {
    while (!bytes.empty() && failure_.ok()) {
      const ssize_t written = Retry([&] { return ::write(descriptor_.number(), bytes.data(), bytes.size()); });
      if (written < 0) {
        failure_ = PosixError("write", path_, errno);
      } else {
        bytes = bytes.subspan(static_cast<size_t>(written));
      }
    }
    return failure_;
  }

  Status Sync() override {
    if (failure_.ok() && Retry([&] { return ::fsync(descriptor_.number()); }) != 0) failure_ = PosixError("fsync", path_, errno);
    return failure_;
  }

  Status Close() override {
    if (const int error = descriptor_.Close(); error != 0 && failure_.ok()) failure_ = PosixError("close", path_, error);
    return failure_;
  }

 private:
  const std::string path_;
  Descriptor descriptor_;
  Status failure_;  // the first one
};

class PosixReadableFile final : public ReadableFile {
 public:
  PosixReadableFile(std::string path, Descriptor descriptor, uint64_t bytes)
      : path_(std::move(path)), descriptor_(std::move(descriptor)), bytes_(bytes) {}

  uint64_t bytes() const override { return bytes_; }

  Status ReadAt(uint64_t offset, std::span<std::byte> to) const override {
    if (offset > bytes_ || to.size() > bytes_ - offset) {
      return OutOfRange("read ", path_, ": the file ends at byte ", bytes_, ", wanted ", to.size(), " bytes from ", offset);
    }
    while (!to.empty()) {
      const ssize_t count = Retry([&] { return ::pread(descriptor_.number(), to.data(), to.size(), static_cast<off_t>(offset)); });
      if (count < 0) return PosixError("read", path_, errno);
      if (count == 0) return OutOfRange("read ", path_, ": the file was cut to ", offset, " bytes while it was read (it had ", bytes_, ")");
      offset += static_cast<uint64_t>(count);
      to = to.subspan(static_cast<size_t>(count));
    }
    return OkStatus();
  }

 private:
  const std::string path_;
  const Descriptor descriptor_;
  const uint64_t bytes_;
};

class RealStorage final : public Storage {
 public:
  StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override { return OpenToWrite(path, O_TRUNC); }
  StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override { return OpenToWrite(path, O_APPEND); }

  StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) const override {
    // O_NONBLOCK: opening a named pipe must not wait for its writer; it changes nothing for a regular file.
    Descriptor descriptor(Retry([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
    if (descriptor.number() < 0) return PosixError("open", path, errno);
    struct stat facts = {};
    if (::fstat(descriptor.number(), &facts) != 0) return PosixError("read the size of", path, errno);
    if (!S_ISREG(facts.st_mode)) return FailedPrecondition("open ", path, ": not a regular file");
    return std::make_unique<PosixReadableFile>(path, std::move(descriptor), static_cast<uint64_t>(facts.st_size));
  }

  StatusOr<bool> Exists(const std::string& path) const override {
    struct stat facts = {};
    if (::stat(path.c_str(), &facts) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return PosixError("look for", path, errno);
  }

  StatusOr<std::vector<std::string>> List(const std::string& directory) const override {
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), ::closedir);
    if (stream == nullptr) return PosixError("list", directory, errno);
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(stream.get());
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return PosixError("list", directory, errno);
    std::sort(names.begin(), names.end());
    return names;
  }

  Status CreateDirectories(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    return error ? PosixError("create directory", path, error.value()) : OkStatus();
  }

  Status Rename(const std::string& from, const std::string& to) override {
    return ::rename(from.c_str(), to.c_str()) == 0 ? OkStatus() : PosixError(Cat("rename ", from, " to"), to, errno);
  }

  Status RemoveAll(const std::string& path) override {
    // Not std::filesystem::remove_all: a program that links libtorch first would call libtorch's old copy, which crashes.
    const auto remove = [](const char* entry, const struct stat*, int, struct FTW*) { return ::remove(entry); };
    if (::nftw(path.c_str(), remove, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT) return OkStatus();
    return PosixError("remove", path, errno);
  }

  Status SyncDirectory(const std::string& path) override {
    const Descriptor descriptor(Retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (descriptor.number() < 0) return PosixError("open directory", path, errno);
    if (Retry([&] { return ::fsync(descriptor.number()); }) == 0) return OkStatus();
    // Some network file systems write entries at once and have no fsync for directories: they answer EINVAL.
    return errno == EINVAL ? OkStatus() : PosixError("fsync directory", path, errno);
  }

 private:
  static StatusOr<std::unique_ptr<WritableFile>> OpenToWrite(const std::string& path, int flag) {
    Descriptor descriptor(Retry([&] { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flag, 0666); }));
    if (descriptor.number() < 0) return PosixError("create", path, errno);
    return std::make_unique<PosixWritableFile>(path, std::move(descriptor));
  }
};

}  // namespace

Storage& PosixStorage() {
  static RealStorage storage;
  return storage;
}

}  // namespace dtrain
