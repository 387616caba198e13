#include "allreduce/shm_communicator.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "allreduce/host_memory.h"
#include "allreduce/shm_calls.h"
#include "base/check.h"

namespace dtrain {
namespace {

using shm_internal::kRanksMax;

constexpr int64_t kPageBytes = 4096;
constexpr int64_t kStageBytes = 2 * shm_internal::kWindowBytes;
constexpr uint64_t kMagic = 0x316d687364727464;
constexpr Duration kHealthPoll = std::chrono::milliseconds(50);
constexpr Duration kOpenPoll = std::chrono::milliseconds(1);

int64_t WholePages(int64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

void FutexWait(std::atomic<uint32_t>& word, uint32_t seen, Duration wait) {
  const auto ns = std::max<int64_t>(wait.count(), 0);
  const timespec timeout = {ns / 1'000'000'000, ns % 1'000'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

void FutexWakeAll(std::atomic<uint32_t>& word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

int UsableCores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

Status NotEnoughMemory(int64_t bytes, int ranks, std::string_view found) {
  return WithHint(ResourceExhausted("reserve ", HumanBytes(static_cast<double>(bytes)), " of shared memory for ", ranks, " ranks: ", found),
                  "use fewer ranks (-n) or a smaller model, or give the container more memory");
}

}  // namespace

// The first page of the segment. Fresh memory is zero, which is the initial value of every field.
struct ShmCommunicator::Header {
  std::atomic<uint64_t> magic;  // written last by the rank that sized the segment
  int64_t rank_region_bytes, shared_region_bytes;
  int32_t size;
  alignas(64) std::atomic<uint32_t> arrived;
  alignas(64) std::atomic<uint32_t> generation;  // futex word; rises when a barrier opens
  std::atomic<uint32_t> sleepers;
  alignas(64) std::atomic<uint32_t> gave_up;             // 1 + the first rank that did; never taken back
  alignas(64) std::atomic<uint32_t> reached[kRanksMax];  // generation a rank last came to, to name who is missing
  // By parity of the generation: a rank writes a word again only two barriers later, when all have read it.
  alignas(64) std::atomic<uint64_t> errands[2][kRanksMax];
};

StatusOr<int> ShmCommunicator::MakeSegment() {
  const int fd = memfd_create("dtrain", MFD_CLOEXEC);
  if (fd < 0) return ResourceExhausted("make a shared-memory segment: ", std::strerror(errno));
  return fd;
}

StatusOr<std::unique_ptr<ShmCommunicator>> ShmCommunicator::Open(int segment_fd, const ShmOptions& options, Deadline deadline) {
  static_assert(sizeof(Header) <= kPageBytes);
  if (options.size < 1 || options.size > kRanksMax || options.rank < 0 || options.rank >= options.size) {
    return InvalidArgument("open the shared-memory segment: rank ", options.rank, " of ", options.size, "; expected a rank of 1 to ",
                           kRanksMax, " ranks");
  }
  DTRAIN_CHECK(options.rank_region_bytes >= 0 && options.shared_region_bytes >= 0);
  const int64_t bytes =
      kPageBytes + options.size * (kStageBytes + WholePages(options.rank_region_bytes)) + WholePages(options.shared_region_bytes);
  struct stat info = {};
  if (fstat(segment_fd, &info) != 0)
    return InvalidArgument("open the shared-memory segment: descriptor ", segment_fd, ": ", std::strerror(errno));
  if (options.rank == 0) {
    if (info.st_size != 0) {
      return InvalidArgument("open the shared-memory segment: it has ", info.st_size,
                             " bytes already; expected a fresh one from MakeSegment");
    }
    // The reservation below takes page after page until the kernel starts to kill: it never fails on its own.
    const int64_t available = AvailableMemoryBytes();
    if (bytes > available) {
      return NotEnoughMemory(bytes, options.size, Cat("only ", HumanBytes(static_cast<double>(available)), " are free"));
    }
    // Sizes the segment and reserves its memory at once: one that is only sized would kill a rank by SIGBUS when memory
    // runs out later. The size appears when all is reserved, so no other rank touches what is not there.
    int error;
    do {
      error = posix_fallocate(segment_fd, 0, bytes);
    } while (error == EINTR && !deadline.Passed());
    if (error != 0) return NotEnoughMemory(bytes, options.size, std::strerror(error));
  } else {
    while (info.st_size == 0) {  // rank 0 comes first
      if (deadline.Passed()) return DeadlineExceeded("open the shared-memory segment: rank 0 did not size it in time");
      RETURN_IF_ERROR(options.health());
      std::this_thread::sleep_for(kOpenPoll);
      DTRAIN_CHECK(fstat(segment_fd, &info) == 0);
    }
    if (info.st_size != bytes) {
      return InvalidArgument("open the shared-memory segment: it has ", info.st_size, " bytes, this rank expected ", bytes,
                             "; the ranks disagree on the model or on the number of ranks");
    }
  }
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment_fd, 0);
  if (base == MAP_FAILED)
    return ResourceExhausted("map ", HumanBytes(static_cast<double>(bytes)), " of shared memory: ", std::strerror(errno));
  std::unique_ptr<ShmCommunicator> communicator(new ShmCommunicator(options, static_cast<std::byte*>(base), bytes));
  Header& header = communicator->header();
  if (options.rank == 0) {
    header.rank_region_bytes = options.rank_region_bytes;
    header.shared_region_bytes = options.shared_region_bytes;
    header.size = options.size;
    header.magic.store(kMagic, std::memory_order_release);
  } else {
    while (header.magic.load(std::memory_order_acquire) != kMagic) {
      if (deadline.Passed()) return DeadlineExceeded("open the shared-memory segment: rank 0 did not prepare it in time");
      RETURN_IF_ERROR(options.health());
      std::this_thread::sleep_for(kOpenPoll);
    }
    if (header.rank_region_bytes != options.rank_region_bytes || header.shared_region_bytes != options.shared_region_bytes ||
        header.size != options.size) {
      return InvalidArgument("open the shared-memory segment: made for ", header.size, " ranks with regions of ", header.rank_region_bytes,
                             " and ", header.shared_region_bytes, " bytes; this rank expected ", options.size, ", ",
                             options.rank_region_bytes, " and ", options.shared_region_bytes);
    }
  }
  RETURN_IF_ERROR(communicator->Barrier(deadline));
  return communicator;
}

ShmCommunicator::ShmCommunicator(const ShmOptions& options, std::byte* base, int64_t bytes)
    : options_(options), base_(base), bytes_(bytes) {}

ShmCommunicator::~ShmCommunicator() { munmap(base_, bytes_); }

ShmCommunicator::Header& ShmCommunicator::header() const { return *reinterpret_cast<Header*>(base_); }

std::byte* ShmCommunicator::stage(int rank) const { return base_ + kPageBytes + rank * kStageBytes; }

std::byte* ShmCommunicator::next_window(int rank) const { return stage(rank) + meets_ % 2 * shm_internal::kWindowBytes; }

std::byte* ShmCommunicator::met_window(int rank) const { return stage(rank) + (meets_ + 1) % 2 * shm_internal::kWindowBytes; }

std::span<std::byte> ShmCommunicator::rank_region(int rank) const {
  DTRAIN_CHECK(rank >= 0 && rank < options_.size);
  std::byte* first = stage(options_.size) + rank * WholePages(options_.rank_region_bytes);
  return {first, static_cast<size_t>(options_.rank_region_bytes)};
}

std::span<std::byte> ShmCommunicator::shared_region() const {
  std::byte* first = stage(options_.size) + options_.size * WholePages(options_.rank_region_bytes);
  return {first, static_cast<size_t>(options_.shared_region_bytes)};
}

Status ShmCommunicator::Barrier(Deadline deadline) {
  return Meet(shm_internal::Errand(shm_internal::Call::kBarrier, uint8_t{0}, 0), deadline);
}

Status ShmCommunicator::Meet(uint64_t errand, Deadline deadline) {
  Status status = options_.size == 1 ? OkStatus() : WaitForAll(errand, deadline);
  ++meets_;
  // Who leaves a barrier has been counted as come and will not come again: nobody may wait for it any more, and the one
  // that is late must not take the count for complete.
  if (!status.ok()) Abort();
  return status;
}

Status ShmCommunicator::WaitForAll(uint64_t errand, Deadline deadline) {
  Header& h = header();
  if (h.gave_up.load(std::memory_order_acquire) != 0) return CheckGoingOn();
  // Spinning longer than a scheduler tick only helps while every rank has a core of its own (4 ranks on 2 cores kept 0.94
  // of their speed with 100 pauses and 0.6 with 20,000).
  static const int cores = UsableCores();
  const int spins = options_.size <= cores ? 20'000 : 100;
  // Cannot rise before this rank has come too.
  const uint32_t generation = h.generation.load(std::memory_order_acquire);
  h.errands[generation % 2][options_.rank].store(errand, std::memory_order_relaxed);
  h.reached[options_.rank].store(generation + 1, std::memory_order_relaxed);
  // acq_rel: the last one to come takes over what all others wrote before, and gives it on with `generation`.
  if (h.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(options_.size)) {
    h.arrived.store(0, std::memory_order_relaxed);
    // seq_cst with the sleepers: either we see a sleeper, or it sees the new generation before it sleeps.
    h.generation.store(generation + 1, std::memory_order_seq_cst);
    if (h.sleepers.load(std::memory_order_seq_cst) > 0) FutexWakeAll(h.generation);
    return CheckErrands(errand, generation);
  }
  for (int spin = 0; spin < spins; ++spin) {
    if (h.generation.load(std::memory_order_acquire) != generation) return CheckErrands(errand, generation);
    Pause();
  }
  while (h.generation.load(std::memory_order_acquire) == generation) {
    RETURN_IF_ERROR(CheckGoingOn());
    if (deadline.Passed()) return Missing(generation);
    h.sleepers.fetch_add(1, std::memory_order_seq_cst);
    FutexWait(h.generation, generation, std::min(kHealthPoll, deadline.Left()));
    h.sleepers.fetch_sub(1, std::memory_order_seq_cst);
  }
  return CheckErrands(errand, generation);
}

Status ShmCommunicator::CheckGoingOn() const {
  RETURN_IF_ERROR(options_.health());  // first: it knows the cause
  const uint32_t gave_up = header().gave_up.load(std::memory_order_acquire);
  if (gave_up == 0) return OkStatus();
  return Unavailable("wait for the other ranks: rank ", gave_up - 1, " gave up (its wait failed, or it was aborted)");
}

Status ShmCommunicator::CheckErrands(uint64_t errand, uint32_t generation) const {
  for (int rank = 0; rank < options_.size; ++rank) {
    const uint64_t found = header().errands[generation % 2][rank].load(std::memory_order_relaxed);
    if (found == errand) continue;
    return InvalidArgument("rank ", rank, " called ", shm_internal::Describe(found), ", rank ", options_.rank, " called ",
                           shm_internal::Describe(errand), "; all ranks must make the same calls in the same order");
  }
  return OkStatus();
}

Status ShmCommunicator::Missing(uint32_t generation) const {
  std::vector<std::string> missing;
  for (int rank = 0; rank < options_.size; ++rank) {
    if (header().reached[rank].load(std::memory_order_relaxed) != generation + 1) missing.push_back(Cat(rank));
  }
  // All came, so the last to come opens: it died in between.
  if (missing.empty()) return DeadlineExceeded("wait for the other ranks: the last to come ended before it let the others go on");
  return DeadlineExceeded("wait for the other ranks: ", missing.size() == 1 ? "rank " : "ranks ", Join(missing, ", "),
                          " did not come in time");
}

void ShmCommunicator::Abort() {
  uint32_t nobody = 0;
  header().gave_up.compare_exchange_strong(nobody, static_cast<uint32_t>(options_.rank) + 1, std::memory_order_acq_rel);
  FutexWakeAll(header().generation);
}

}  // namespace dtrain
