// dtrain bench comm: what an all-reduce among ranks of this host costs, by size and by what carries it, and what that means for a
// training step on other numbers of ranks.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "allreduce/link_communicator.h"
#include "allreduce/shm_communicator.h"
#include "base/cost_model.h"
#include "cluster/file_descriptor.h"
#include "cluster/tcp_transport.h"
#include "trainer/checkpoint/json_value.h"
#include "trainer/cli/cli.h"
#include "trainer/report/layout.h"

namespace dtrain {
namespace {

constexpr std::array<int64_t, 5> kSizes = {4 << 10, 64 << 10, 1 << 20, 8 << 20, 32 << 20};
constexpr std::array<const char*, 3> kBackends = {"memcpy", "shared_memory", "tcp"};
constexpr std::array<int, 4> kPredictedRanks = {2, 4, 8, 16};
constexpr int64_t kBenchRanksMax = 16;
constexpr double kSecondsOfSize = 0.15;
constexpr Duration kLimit = std::chrono::minutes(2);

double Median(std::vector<double> times) {
  std::ranges::nth_element(times, times.begin() + static_cast<int64_t>(times.size() / 2));
  return times[times.size() / 2];
}

// Seconds by backend and size, medians of this rank; every size in turns of all backends.
StatusOr<Value> Measure(Communicator& shm, Communicator& tcp) {
  const Deadline deadline = Deadline::In(kLimit);
  std::vector<float> data(kSizes.back() / sizeof(float)), copy(data.size(), 1.0f);
  Value measured = Value::Map();
  for (const int64_t bytes : kSizes) {
    const auto part = std::span<float>(data).first(bytes / sizeof(float));
    const int at_once = bytes <= 64 << 10 ? 20 : 1;
    std::array<std::vector<double>, kBackends.size()> times;
    const TimePoint begin = SystemClock().Now();
    for (int64_t more = 1, turn = 0; more != 0; ++turn) {
      for (size_t backend = 0; backend < kBackends.size(); ++backend) {
        RETURN_IF_ERROR(shm.Barrier(deadline));
        const TimePoint from = SystemClock().Now();
        for (int i = 0; i < at_once; ++i) {
          if (backend == 0) {
            std::memcpy(copy.data(), part.data(), part.size_bytes());
          } else {
            RETURN_IF_ERROR((backend == 1 ? shm : tcp).AllReduce(part, deadline));
          }
        }
        if (backend == 0) RETURN_IF_ERROR(shm.Barrier(deadline));  // until the slowest copy is there
        if (turn > 0) times[backend].push_back(Seconds(SystemClock().Now() - from) / at_once);
      }
      more = turn < 3 || Seconds(SystemClock().Now() - begin) < kSecondsOfSize ? 1 : 0;
      RETURN_IF_ERROR(shm.Broadcast(std::as_writable_bytes(std::span(&more, 1)), 0, deadline));  // rank 0's clock decides
    }
    for (size_t backend = 0; backend < kBackends.size(); ++backend)
      measured.Set(Cat(kBackends[backend], ".", bytes), Median(times[backend]));
  }
  return measured;
}

Status RunRank(int rank, int ranks, int segment_fd, std::vector<std::unique_ptr<Link>> links, int answer_fd) {
  ASSIGN_OR_RETURN(const auto shm, ShmCommunicator::Open(segment_fd, {.rank = rank, .size = ranks}, Deadline::In(kLimit)));
  LinkOptions options;
  options.group.rank = rank;
  options.group.size = ranks;
  ASSIGN_OR_RETURN(const auto tcp, LinkCommunicator::Open(std::move(links), options));
  ASSIGN_OR_RETURN(const Value measured, Measure(*shm, *tcp));
  if (rank != 0) return OkStatus();
  const std::string text = measured.ToJson();
  if (write(answer_fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) return Unavailable("bench: ", std::strerror(errno));
  return OkStatus();
}

// links[i][j]: the end of rank i of the link between i and j.
StatusOr<std::vector<std::vector<std::unique_ptr<Link>>>> LoopbackMesh(int ranks) {
  TcpTransport transport({.message_bytes_max = kFramePayloadBytesMax + (1 << 20)});
  std::vector<std::vector<std::unique_ptr<Link>>> mesh(ranks);
  for (auto& links : mesh) links.resize(ranks);
  ASSIGN_OR_RETURN(const auto listener, transport.Listen({"127.0.0.1", 0}));
  for (int i = 0; i < ranks; ++i) {
    for (int j = 0; j < i; ++j) {
      ASSIGN_OR_RETURN(mesh[i][j], transport.Connect(listener->address(), Deadline::In(kLimit)));
      ASSIGN_OR_RETURN(mesh[j][i], listener->Accept(Deadline::In(kLimit)));
    }
  }
  return mesh;
}

// The ranks are processes, as in training.
StatusOr<Value> MeasureAmong(int ranks) {
  ASSIGN_OR_RETURN(const int segment, ShmCommunicator::MakeSegment());
  const FileDescriptor segment_owner(segment);
  ASSIGN_OR_RETURN(auto mesh, LoopbackMesh(ranks));
  int ends[2];
  if (pipe(ends) != 0) return ResourceExhausted("bench: ", std::strerror(errno));
  const FileDescriptor answer(ends[0]);
  FileDescriptor said(ends[1]);
  std::vector<pid_t> children;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t pid = fork();
    if (pid < 0) return ResourceExhausted("bench: start rank ", rank, ": ", std::strerror(errno));
    if (pid > 0) {
      children.push_back(pid);
      continue;
    }
    auto links = std::move(mesh[rank]);
    mesh.clear();
    const Status status = RunRank(rank, ranks, segment, std::move(links), said.fd());
    if (!status.ok()) ReportError(status, ExitCode::kRankFailed);
    _exit(status.ok() ? 0 : 1);
  }
  mesh.clear();
  said.Reset();
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t count; (count = read(answer.fd(), buffer.data(), buffer.size())) > 0;) text.append(buffer.data(), count);
  bool all_well = true;
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    all_well = all_well && status == 0;
  }
  if (!all_well) return WithExitCode(Unavailable("bench: a rank failed; what it said is above"), ExitCode::kRankFailed);
  return ParseJson(text);
}

std::string Microseconds(double seconds) {
  return seconds < 0.01 ? Cat(Fixed(seconds * 1e6, 1), " us") : Cat(Fixed(seconds * 1e3, 1), " ms");
}

}  // namespace

StatusOr<ExitCode> BenchVerb(const Arguments& arguments, const VerbSpec& spec, const RankProgram&) {
  if (arguments.words() != std::vector<std::string>{"comm"}) return UsageError(spec, "expected comm");
  ASSIGN_OR_RETURN(const int64_t ranks, arguments.Int("ranks", 2, 2, kBenchRanksMax));
  ASSIGN_OR_RETURN(const Value measured, MeasureAmong(static_cast<int>(ranks)));
  Value answer = Value::Map();
  answer.Set("ranks", ranks);
  answer.Set("seconds", measured);
  std::string table = Cat("All-reduce of floats among ", ranks, " ranks on this host\n\n  ", Pad("bytes", 10));
  for (const char* backend : kBackends) table += Cat("  ", Pad(backend, 26));
  table += "\n";
  std::array<LinearCost, kBackends.size()> costs;
  for (size_t backend = 0; backend < kBackends.size(); ++backend) {
    std::vector<Measurement> points;
    for (const int64_t bytes : kSizes)
      points.push_back({static_cast<double>(bytes), measured.Double(Cat(kBackends[backend], ".", bytes), 0)});
    costs[backend] = FitCost(points);
    answer.Set(Cat("cost.", kBackends[backend], ".start_s"), costs[backend].start_s);
    answer.Set(Cat("cost.", kBackends[backend], ".bytes_per_s"), costs[backend].bytes_per_s);
  }
  for (const int64_t bytes : kSizes) {
    table += Cat("  ", Pad(HumanBytes(static_cast<double>(bytes)), 10));
    const double memcpy_s = measured.Double(Cat(kBackends[0], ".", bytes), 0);
    for (const char* backend : kBackends) {
      const double seconds = measured.Double(Cat(backend, ".", bytes), 0);
      if (!(seconds > 0)) return DataLoss("bench: no measurement of ", backend, " at ", bytes, " bytes");
      // Bus bandwidth: what a ring of N ranks really moves, 2 (N - 1) / N of the bytes.
      const double moved = backend == kBackends[0] ? 1.0 : 2.0 * static_cast<double>(ranks - 1) / static_cast<double>(ranks);
      table += Cat("  ", Pad(Cat(PadLeft(Microseconds(seconds), 10), " ", Fixed(moved * static_cast<double>(bytes) / seconds / 1e9, 2),
                                 " GB/s ", Fixed(memcpy_s / seconds, 2), "x"),
                             26));
    }
    table += "\n";
  }
  table +=
      "\n  GB/s: bytes that each rank moves, 2 (N - 1) / N of the gradient; x: of plain copies by all ranks at once\n\nPredicted for a "
      "gradient, without overlap:\n\n";
  table += Cat("  ", Pad("gradient", 10), Pad("by", 16));
  for (const int n : kPredictedRanks) table += PadLeft(Cat(n, " ranks"), 12);
  table += "\n";
  for (const double bytes : {1e6, 25e6, 100e6, 500e6}) {
    for (size_t backend = 1; backend < kBackends.size(); ++backend) {
      table += Cat("  ", Pad(HumanBytes(bytes), 10), Pad(kBackends[backend], 16));
      for (const int n : kPredictedRanks) {
        table += PadLeft(Microseconds(ForRanks(costs[backend], static_cast<int>(ranks), n).Seconds(bytes)), 12);
      }
      table += "\n";
    }
  }
  Print(arguments.json() ? answer.ToJson() + "\n" : table);
  return ExitCode::kDone;
}

}  // namespace dtrain
