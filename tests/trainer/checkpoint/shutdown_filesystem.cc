// shutdown_filesystem MOUNT_POINT: ends an ext4 file system as a power cut would, without writing back data or log (the
// ioctl behind xfstests' "godown"). Everything on it fails from then on; it can be unmounted and mounted again.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: shutdown_filesystem MOUNT_POINT\n");
    return 2;
  }
  constexpr uint32_t kNoLogFlush = 2;                        // EXT4_GOING_FLAGS_NOLOGFLUSH
  const unsigned long kShutdown = _IOR('X', 125, uint32_t);  // EXT4_IOC_SHUTDOWN
  const int descriptor = ::open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  uint32_t flags = kNoLogFlush;
  if (descriptor < 0 || ::ioctl(descriptor, kShutdown, &flags) != 0) {
    std::fprintf(stderr, "shut down the file system of %s: %s\n", argv[1], std::strerror(errno));
    return 1;
  }
  return 0;
}
