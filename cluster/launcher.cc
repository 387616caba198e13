#include "cluster/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/digest.h"
#include "cluster/coordinator_server.h"
#include "cluster/handshake.h"
#include "cluster/job_environment.h"
#include "cluster/job_requests.h"
#include "cluster/process.h"
#include "cluster/rank_output.h"
#include "cluster/run_files.h"
#include "cluster/signal_watch.h"
#include "cluster/tcp_transport.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kTick = milliseconds(100);
constexpr Duration kExitLimit = seconds(10);  // from a rank's last word to the end of its process
constexpr size_t kReadBytesMax = 256 << 10;   // of one rank's output in one turn, so that none drowns the heartbeats
// What a rank or client may send; what goes to them has the transport's own limit.
constexpr uint32_t kArrivingBytesMax = 256 << 10;
constexpr uint32_t kHelloBytesMax = 4 << 10;  // from whom nothing is known yet
constexpr std::array kSignals = {SIGTERM, SIGINT, SIGUSR1, SIGTSTP};

std::string TimeText(double wall_seconds) {
  const auto time = static_cast<time_t>(wall_seconds);
  tm parts = {};
  gmtime_r(&time, &parts);
  std::array<char, 32> text;
  return std::string(text.data(), strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts));
}

Status CheckOptions(const LaunchOptions& options) {
  RETURN_IF_ERROR(CheckJobOptions(options));
  if (options.segment_fd >= 0 && options.segment_fd <= STDERR_FILENO) {
    return InvalidArgument("the segment's descriptor is ", options.segment_fd, ", which is a standard stream");
  }
  return OkStatus();
}

}  // namespace

struct Launcher::State {
  struct Rank {
    Process process;
    RankOutput output;
    std::optional<TimePoint> left;  // when its last word was seen
    bool killed = false;            // because it did not end after that
    bool ended = false;
  };

  explicit State(LaunchOptions launch_options) : options(std::move(launch_options)) {}

  const LaunchOptions options;
  std::string token;
  FileDescriptor wake;  // an eventfd: link threads and requests from other threads end the loop's poll
  JobRequests requests;
  std::unique_ptr<SignalWatch> signals;
  std::vector<ProcessEntry> table;
  std::vector<Rank> ranks;
  std::unique_ptr<CoordinatorServer> server;  // after `wake`, which its threads use

  StopSignals stop_signals;
  std::optional<TimePoint> failed;
  bool killed = false;

  Coordinator& machine() { return server->machine(); }
  void Notice(LogLevel level, const std::string& text) {
    if (options.on_notice) options.on_notice(level, text);
  }
  void Warn(const std::string& text) { Notice(LogLevel::kWarning, text); }
  void Wake() const {
    const uint64_t one = 1;
    (void)!write(wake.fd(), &one, sizeof one);
  }

  Status Prepare();
  Status StartRank(int rank, const Address& coordinator);

  void Sleep(TimePoint until);
  void TakeSignals();
  void TakeOutput();
  bool TakeEnds();
  void EndTheRest();
  void KillAll();
  void Pause();
  JobOutcome Finish();
};

Status Launcher::State::Prepare() {
  RETURN_IF_ERROR(CheckOptions(options));
  std::error_code error;
  std::filesystem::create_directories(options.run_directory + "/logs", error);
  if (error) return Unavailable("make ", options.run_directory, "/logs: ", error.message());
  wake = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.open()) return ResourceExhausted("make an eventfd: ", std::strerror(errno));
  token = Hex(SecureRandom());
  TcpTransport transport({.message_bytes_max = kArrivingBytesMax, .first_message_bytes_max = kHelloBytesMax});
  ASSIGN_OR_RETURN(auto listener, transport.Listen({"127.0.0.1", 0}));
  const Address coordinator = listener->address();
  if (options.handle_signals) {
    ASSIGN_OR_RETURN(signals, SignalWatch::Start(kSignals));
  }
  // Ranks first, threads later: fork is simplest while there is one thread. Ranks that are quick wait in the backlog.
  table.push_back({getpid(), "launcher", 0, HostName(), ""});
  ranks.reserve(static_cast<size_t>(options.ranks));
  for (int rank = 0; rank < options.ranks; ++rank) RETURN_IF_ERROR(StartRank(rank, coordinator));
  RETURN_IF_ERROR(WriteProcessTable(options.run_directory, table));
  RETURN_IF_ERROR(WriteControlFile(options.run_directory, {coordinator, token}));
  CoordinatorServerOptions server_options = {
      .job = {.ranks = options.ranks,
              .job_description = options.job_description,
              .deadline = options.deadline,
              .slow = options.slow,
              .stall = options.stall,
              .start_limit = options.start_limit},
      .token = token,
      .on_event =
          [this](int rank, const std::string& event) {
            if (options.on_event) options.on_event(rank, event);
          },
      .on_notice = [this](LogLevel level, const std::string& text) { Notice(level, text); },
      .on_query =
          [this](const std::string& query) {
            Wake();
            return requests.OnQuery(query, options);
          },
      .wake = [this] { Wake(); },
  };
  server = std::make_unique<CoordinatorServer>(std::move(listener), std::move(server_options));
  return OkStatus();
}

Status Launcher::State::StartRank(int rank, const Address& coordinator) {
  const JobEnvironment job = {.rank = rank,
                              .world_size = options.ranks,
                              .coordinator = coordinator,
                              .token = token,
                              .segment_fd = options.segment_fd,
                              .deadline = options.deadline};
  SpawnOptions spawn = {.command = options.command, .environment = options.environment, .inherited_fd = options.segment_fd};
  if (options.segment_fd < 0) spawn.environment.emplace_back("DTRAIN_SEGMENT_FD");
  for (std::string& variable : ToEnvironment(job)) spawn.environment.push_back(std::move(variable));
  ASSIGN_OR_RETURN(Process process, Process::Spawn(spawn));
  const std::string prefix = Cat("rank ", rank, " | ");
  ASSIGN_OR_RETURN(RankOutput output, RankOutput::Open(Cat(options.run_directory, "/logs/rank-", rank, ".log"),
                                                       Cat("=== ", TimeText(SystemClock().WallSeconds()), " rank ", rank, " of ",
                                                           options.ranks, ", pid ", process.pid(), ": ", Join(options.command, " ")),
                                                       [this, prefix](std::string_view line) {
                                                         if (options.on_output) options.on_output(Cat(prefix, line));
                                                       }));
  table.push_back({process.pid(), "rank", rank, HostName(), ""});
  ranks.push_back({std::move(process), std::move(output)});
  return OkStatus();
}

StatusOr<std::unique_ptr<Launcher>> Launcher::Start(const LaunchOptions& options) {
  auto state = std::make_unique<State>(options);
  if (const Status prepared = state->Prepare(); !prepared.ok()) {
    if (!options.run_directory.empty()) RemoveControlFile(options.run_directory);
    return WithExitCode(Annotate(prepared, Cat("start ", options.ranks, options.ranks == 1 ? " rank" : " ranks")), ExitCode::kSetUp);
  }
  return std::unique_ptr<Launcher>(new Launcher(std::move(state)));
}

Launcher::Launcher(std::unique_ptr<State> state) : state_(std::move(state)) {}
Launcher::~Launcher() = default;

void Launcher::RequestStop() {
  state_->requests.Stop();
  state_->Wake();
}

void Launcher::RequestSave() {
  state_->requests.Save();
  state_->Wake();
}

JobOutcome Launcher::Run() {
  State& job = *state_;
  TimePoint next_tick = SystemClock().Now();
  const auto runs = [](const State::Rank& rank) { return !rank.ended; };
  while (std::any_of(job.ranks.begin(), job.ranks.end(), runs)) {
    job.Sleep(next_tick);
    job.TakeSignals();
    job.requests.Tell(job.machine(), job.options);
    job.TakeOutput();
    // What a rank said before it ended comes first; what its end leads to goes out at once.
    job.server->Turn(Deadline::In({}));
    if (job.TakeEnds()) job.server->Turn(Deadline::In({}));
    job.EndTheRest();
    if (const TimePoint now = SystemClock().Now(); now >= next_tick) {
      next_tick = now + kTick;
      if (job.options.on_tick) job.options.on_tick();
    }
  }
  return job.Finish();
}

void Launcher::State::Sleep(TimePoint until) {
  std::vector<pollfd> polled = {{.fd = wake.fd(), .events = POLLIN}, {.fd = signals ? signals->fd() : -1, .events = POLLIN}};
  for (const Rank& rank : ranks) {
    polled.push_back({.fd = rank.ended ? -1 : rank.process.pidfd(), .events = POLLIN});
    polled.push_back({.fd = rank.process.output(), .events = POLLIN});  // -1, which poll ignores, once it is closed
  }
  // Also often enough to see silence in time.
  const Duration longest = std::min(kTick, options.deadline / 10);
  const auto wait = std::chrono::ceil<milliseconds>(std::clamp<Duration>(until - SystemClock().Now(), Duration(0), longest));
  poll(polled.data(), polled.size(), static_cast<int>(wait.count()));
  uint64_t count = 0;
  (void)!read(wake.fd(), &count, sizeof count);
}

void Launcher::State::TakeSignals() {
  if (!signals) return;
  for (const int signal : signals->Take()) {
    if (signal == SIGTSTP) {
      Pause();
      continue;
    }
    const StopSignals::Ask ask = stop_signals.On(signal, SystemClock().Now());
    if (ask == StopSignals::Ask::kStop) requests.Stop();
    if (ask != StopSignals::Ask::kEnd) continue;
    machine().Fail(Cancelled("the job was interrupted: its ranks were killed at once"), ExitCode::kInterrupted, -1);
    KillAll();
  }
}

// Ctrl-Z: ranks and launcher stop together, so that none takes the other's silence for death.
void Launcher::State::Pause() {
  for (const Rank& rank : ranks) rank.process.Signal(SIGSTOP);
  raise(SIGSTOP);
  for (const Rank& rank : ranks) rank.process.Signal(SIGCONT);
}

void Launcher::State::TakeOutput() {
  std::array<char, 16 << 10> buffer;
  for (Rank& rank : ranks) {
    for (size_t taken = 0; rank.process.output() >= 0 && taken < kReadBytesMax;) {
      const ssize_t count = read(rank.process.output(), buffer.data(), buffer.size());
      if (count > 0) {
        taken += static_cast<size_t>(count);
        const Status written = rank.output.Add({buffer.data(), static_cast<size_t>(count)});
        if (!written.ok()) Warn(Cat("the log ends here: ", Message(written)));
      } else if (count == 0) {
        rank.process.CloseOutput();
      } else if (errno != EINTR) {
        break;
      }
    }
  }
}

bool Launcher::State::TakeEnds() {
  bool any = false;
  for (size_t i = 0; i < ranks.size(); ++i) {
    Rank& rank = ranks[i];
    if (rank.ended) continue;
    const auto end = rank.process.Poll();
    if (!end.has_value()) continue;
    rank.ended = any = true;
    table[i + 1].ended = end->ToText();
    machine().ProcessEnded(static_cast<int>(i), *end, SystemClock().Now());
  }
  return any;
}

void Launcher::State::EndTheRest() {
  const TimePoint now = SystemClock().Now();
  for (size_t i = 0; i < ranks.size(); ++i) {
    Rank& rank = ranks[i];
    if (rank.ended || !machine().rank_state(static_cast<int>(i)).left) continue;
    if (!rank.left.has_value()) rank.left = now;
    if (now - *rank.left >= kExitLimit && !std::exchange(rank.killed, true)) {
      Warn(Cat("rank ", i, " has left the job but its process does not end; it is killed"));
      rank.process.Signal(SIGKILL);
    }
  }
  if (!machine().over() || machine().outcome()->code == ExitCode::kDone || machine().outcome()->code == ExitCode::kStopped) return;
  if (!failed.has_value()) failed = now;
  // Nobody waits for a rank that was declared dead to end by itself.
  const int culprit = machine().outcome()->culprit;
  bool only_the_dead = culprit >= 0 && !machine().rank_state(culprit).left;
  for (size_t i = 0; i < ranks.size(); ++i) only_the_dead = only_the_dead && (ranks[i].ended || static_cast<int>(i) == culprit);
  if (only_the_dead || now - *failed >= options.stop_limit) KillAll();
}

void Launcher::State::KillAll() {
  if (std::exchange(killed, true)) return;
  for (const Rank& rank : ranks) rank.process.Signal(SIGKILL);
}

JobOutcome Launcher::State::Finish() {
  TakeOutput();
  for (Rank& rank : ranks) {
    rank.process.CloseOutput();
    rank.output.Finish();
  }
  RemoveControlFile(options.run_directory);
  table[0].ended = "job over";
  if (const Status written = WriteProcessTable(options.run_directory, table); !written.ok()) Warn(Message(written));
  signals.reset();

  const Outcome outcome = *machine().outcome();  // every process has ended, so there is one
  JobOutcome result = {outcome.code, outcome.status, machine().requests().stop, outcome.culprit};
  server.reset();
  if (outcome.culprit >= 0) {
    const RankOutput& output = ranks[static_cast<size_t>(outcome.culprit)].output;
    std::string message = Message(outcome.status), tail;
    if (output.tail().empty()) {
      tail = Cat("\n  It printed nothing (", output.path(), ").");
    } else {
      tail = Cat("\n  The last lines of ", output.path(), ":");
      for (const std::string& line : output.tail()) tail += Cat("\n    ", line);
    }
    message.insert(std::min(message.find("\n  Hint: "), message.size()), tail);
    result.status = WithExitCode(Status(outcome.status.code(), message), outcome.code);
  }
  return result;
}

}  // namespace dtrain
