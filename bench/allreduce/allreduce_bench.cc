// All-reduce of floats among processes of this host: a table of size x backend with latency, bytes over time, and that over
// what plain copies of the same bytes by all ranks at once take in the same run.
//   allreduce_bench [--ranks N] [--seconds S] [--backend WORD] [--max-mib M] [--chunk-kib C] [--window W]
// Backends: shm (data anywhere), regions (data in the segment), tcp (links over loopback). Every size is measured in turns,
// one of each backend after another; the table has medians of rank 0.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "allreduce/host_memory.h"
#include "allreduce/link_communicator.h"
#include "allreduce/shm_communicator.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "cluster/tcp_transport.h"
#include "tests/allreduce/link_ranks.h"

namespace dtrain {
namespace {

struct Options {
  int ranks = 2;
  double seconds = 0.6;  // of each size
  std::string backend;   // all
  int64_t bytes_max = 64 << 20;
  ChunkOptions chunks;
};

Deadline Soon() { return Deadline::In(std::chrono::seconds(60)); }

void Expect(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "allreduce_bench: %s\n", Message(status).c_str());
  _exit(1);
}

double Median(std::vector<double> times) {
  std::ranges::nth_element(times, times.begin() + static_cast<int64_t>(times.size() / 2));
  return times[times.size() / 2];
}

struct Backend {
  std::string name;
  std::function<Status(int64_t bytes)> run;
};

void Measure(const Options& options, int rank, ShmCommunicator& shm, LinkCommunicator& tcp) {
  std::vector<float> data(static_cast<size_t>(options.bytes_max) / 4), copy(data.size());
  const auto floats = [&](int64_t bytes) { return std::span<float>(data).first(static_cast<size_t>(bytes) / 4); };
  const auto region = reinterpret_cast<float*>(shm.rank_region(rank).data());
  std::fill_n(region, data.size(), 0.0f);
  std::vector<Backend> backends = {
      {"memcpy",
       [&](int64_t bytes) {
         std::memcpy(copy.data(), data.data(), static_cast<size_t>(bytes));
         return OkStatus();
       }},
      {"shm", [&](int64_t bytes) { return shm.AllReduce(floats(bytes), Soon()); }},
      {"regions", [&](int64_t bytes) { return shm.AllReduceInRegions(DType::kF32, 0, bytes, Soon()); }},
      {"tcp", [&](int64_t bytes) { return tcp.AllReduce(floats(bytes), Soon()); }},
  };
  std::erase_if(backends, [&](const auto& backend) {
    return !options.backend.empty() && backend.name != options.backend && backend.name != "memcpy";
  });
  if (rank == 0) {
    std::printf("%d ranks, medians\n%10s  %-8s %12s %8s %10s\n", options.ranks, "bytes", "backend", "us", "GB/s", "of memcpy");
  }
  for (const int64_t bytes : {4 << 10, 64 << 10, 1 << 20, 25 << 20, 64 << 20}) {
    if (bytes > options.bytes_max) continue;
    // Small ones several at a time: the clock and the barrier before would cost more than they do.
    const int at_once = bytes <= 4 << 10 ? 200 : bytes <= 64 << 10 ? 20 : 1;
    std::vector<std::vector<double>> times(backends.size());
    const TimePoint begin = SystemClock().Now();
    for (int64_t go_on = 1, turn = 0; go_on != 0; ++turn) {
      for (size_t i = 0; i < backends.size(); ++i) {
        Expect(shm.Barrier(Soon()));
        const TimePoint from = SystemClock().Now();
        for (int n = 0; n < at_once; ++n) Expect(backends[i].run(bytes));
        if (backends[i].name == "memcpy") Expect(shm.Barrier(Soon()));  // until the slowest copy is there, as with the sums
        if (turn > 0) times[i].push_back(Seconds(SystemClock().Now() - from) / at_once);
      }
      go_on = turn < 3 || Seconds(SystemClock().Now() - begin) < options.seconds;
      Expect(shm.Broadcast(std::as_writable_bytes(std::span(&go_on, 1)), 0, Soon()));
    }
    const double memcpy_s = Median(times[0]);
    for (size_t i = 0; rank == 0 && i < backends.size(); ++i) {
      const double seconds = Median(times[i]);
      std::printf("%10lld  %-8s %12.2f %8.2f %10.2f\n", static_cast<long long>(bytes), backends[i].name.c_str(), seconds * 1e6,
                  static_cast<double>(bytes) / seconds / 1e9, memcpy_s / seconds);
    }
  }
  if (rank == 0) {
    const auto bytes = std::as_bytes(std::span<const float>(data)).first(256 << 10);
    std::vector<double> times;
    uint32_t sum = 0;
    for (int turn = 0; turn < 200; ++turn) {
      const TimePoint from = SystemClock().Now();
      sum += Crc32c(bytes);
      times.push_back(Seconds(SystemClock().Now() - from));
    }
    std::printf("CRC32C of a 256 KiB chunk: %.1f GB/s (%x)\n", static_cast<double>(bytes.size()) / Median(times) / 1e9, sum);
    std::fflush(stdout);
  }
  Expect(shm.Barrier(Soon()));
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i];
    if (key == "--ranks") options.ranks = std::atoi(argv[i + 1]);
    if (key == "--seconds") options.seconds = std::atof(argv[i + 1]);
    if (key == "--backend") options.backend = argv[i + 1];
    if (key == "--chunk-kib") options.chunks.chunk_bytes = int64_t{std::atoi(argv[i + 1])} << 10;
    if (key == "--window") options.chunks.window = std::atoi(argv[i + 1]);
    if (key == "--max-mib") options.bytes_max = int64_t{std::atoi(argv[i + 1])} << 20;
  }
  KeepFreedMemory();
  TcpTransport transport;
  LinkMesh mesh = MakeMesh(transport, options.ranks);
  const auto segment = ShmCommunicator::MakeSegment();
  Expect(segment.status());
  for (int rank = 0; rank < options.ranks; ++rank) {
    if (fork() != 0) continue;
    auto links = std::move(mesh[static_cast<size_t>(rank)]);
    mesh.clear();
    const auto shm = ShmCommunicator::Open(*segment, {.rank = rank, .size = options.ranks, .rank_region_bytes = options.bytes_max}, Soon());
    Expect(shm.status());
    const auto tcp =
        LinkCommunicator::Open(std::move(links), {.group = {.job = 1, .rank = rank, .size = options.ranks}, .chunks = options.chunks});
    Expect(tcp.status());
    Measure(options, rank, **shm, **tcp);
    _exit(0);
  }
  int failed = 0, status = 0;
  while (wait(&status) > 0) failed += status != 0;
  return failed;
}

}  // namespace
}  // namespace dtrain

int main(int argc, char** argv) { return dtrain::Main(argc, argv); }
