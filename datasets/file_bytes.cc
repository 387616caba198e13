#include "datasets/file_bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace dtrain {
namespace {

// Closes a file descriptor at the end of a scope.
struct FileDescriptor {
  int number;
  ~FileDescriptor() {
    if (number >= 0) close(number);
  }
};

struct InflateEnd {
  z_stream* stream;
  ~InflateEnd() { inflateEnd(stream); }
};

Status TooLarge(const std::string& name, int64_t bytes_max) {
  return ResourceExhausted("read ", name, ": more than ", WithCommas(bytes_max), " bytes unpacked");
}

}  // namespace

bool IsGzip(std::span<const std::byte> bytes) { return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b}; }

StatusOr<std::vector<std::byte>> GunzipBytes(const std::string& name, std::span<const std::byte> packed, int64_t bytes_max) {
  z_stream stream = {};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return Internal("unpack ", name, ": zlib does not start");  // 15 + 16: gzip only
  const InflateEnd at_end{&stream};

  constexpr size_t kChunkBytes = 1 << 20;
  // One byte more than allowed, to see that there is more.
  const auto room_bytes_max = static_cast<size_t>(bytes_max) + 1;
  std::vector<std::byte> unpacked(std::min(std::max(packed.size() * 4, kChunkBytes), room_bytes_max));
  size_t in_bytes = 0, out_bytes = 0;
  bool member_ended = false;
  // zlib counts in 32 bits, so both sides are handed over in pieces.
  while (in_bytes < packed.size() || !member_ended) {
    if (member_ended) {
      if (!IsGzip(packed.subspan(in_bytes))) {
        return DataLoss("unpack ", name, ": ", WithCommas(packed.size() - in_bytes), " bytes after the end of the gzip data");
      }
      inflateReset(&stream);
      member_ended = false;
    }
    if (out_bytes == unpacked.size()) unpacked.resize(std::min(unpacked.size() * 2, room_bytes_max));
    const size_t in_chunk = std::min<size_t>(packed.size() - in_bytes, 1 << 30);
    const size_t out_chunk = std::min<size_t>(unpacked.size() - out_bytes, 1 << 30);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data() + in_bytes));
    stream.avail_in = static_cast<uInt>(in_chunk);
    stream.next_out = reinterpret_cast<Bytef*>(unpacked.data() + out_bytes);
    stream.avail_out = static_cast<uInt>(out_chunk);
    const int result = inflate(&stream, Z_NO_FLUSH);
    in_bytes += in_chunk - stream.avail_in;
    out_bytes += out_chunk - stream.avail_out;
    if (static_cast<int64_t>(out_bytes) > bytes_max) return TooLarge(name, bytes_max);
    if (result == Z_STREAM_END) {
      member_ended = true;
    } else if (result == Z_BUF_ERROR && in_bytes == packed.size()) {
      return DataLoss("unpack ", name, ": gzip ends too early, after ", WithCommas(out_bytes), " unpacked bytes");
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return DataLoss("unpack ", name, ": gzip is broken after ", WithCommas(out_bytes), " unpacked bytes (",
                      stream.msg != nullptr ? stream.msg : "zlib gives no reason", ")");
    }
  }
  unpacked.resize(out_bytes);
  return unpacked;
}

StatusOr<std::vector<std::byte>> ReadFileBytes(const std::string& path, int64_t bytes_max) {
  // O_NONBLOCK changes nothing for a file; opening a pipe that nobody writes to would wait for ever.
  const FileDescriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) {
    const int error = errno;
    if (error == ENOENT) return NotFound("open ", path, ": no such file");
    return MakeStatus(error == EACCES ? StatusCode::kPermissionDenied : StatusCode::kFailedPrecondition, "open ", path, ": ",
                      std::strerror(error));
  }
  struct stat info;
  if (fstat(file.number, &info) != 0) return FailedPrecondition("open ", path, ": ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return FailedPrecondition("open ", path, ": not a regular file");
  if (info.st_size > bytes_max) return TooLarge(path, bytes_max);
  std::vector<std::byte> bytes(static_cast<size_t>(info.st_size));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = read(file.number, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return DataLoss("read ", path, ": ", std::strerror(errno));
    if (count == 0) return DataLoss("read ", path, ": ends after ", WithCommas(done), " bytes, its size was ", WithCommas(info.st_size));
    done += static_cast<size_t>(count);
  }
  if (!IsGzip(bytes)) return bytes;
  return GunzipBytes(path, bytes, bytes_max);
}

}  // namespace dtrain
