#include "cluster/hosted_job.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/digest.h"
#include "cluster/coordinator_server.h"
#include "cluster/job_requests.h"
#include "cluster/local_address.h"
#include "cluster/run_files.h"
#include "cluster/signal_watch.h"
#include "cluster/tcp_transport.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;

constexpr Duration kTick = milliseconds(100);
constexpr uint32_t kArrivingBytesMax = 256 << 10;  // of what a rank or client may send
constexpr uint32_t kHelloBytesMax = 4 << 10;       // of what somebody may send who has not proved anything yet
constexpr std::array kSignals = {SIGTERM, SIGINT, SIGUSR1};

}  // namespace

struct HostedJob::State {
  JobOptions options;
  JobEnvironment job;
  JobRequests requests;
  StopSignals stop_signals;
  std::unique_ptr<SignalWatch> signals;
  std::unique_ptr<CoordinatorServer> server;
  bool files_written = false;

  std::pair<int, int> table = {-1, -1};  // ranks joined and left when processes.json was written; the loop's alone
  std::optional<TimePoint> over_since;   // the same

  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<bool> waited = false, hurry = false;
  bool ended = false;
  std::thread thread;

  Coordinator& machine() { return server->machine(); }
  Status Prepare(const Rendezvous& rendezvous);
  void Loop();
  void TakeSignals();
  void WriteTable(bool at_the_end);
  bool OthersGone();
  JobOutcome Finish();
};

Status HostedJob::State::Prepare(const Rendezvous& rendezvous) {
  RETURN_IF_ERROR(CheckJobOptions(options));
  if (rendezvous.rank != 0) return InvalidArgument("this is rank ", rendezvous.rank, ", rank 0 holds the coordinator");
  ASSIGN_OR_RETURN(const std::string host, ListenAddress(rendezvous.address.host, rendezvous.interface));
  TcpTransport transport({.message_bytes_max = kArrivingBytesMax, .first_message_bytes_max = kHelloBytesMax});
  ASSIGN_OR_RETURN(auto listener, transport.Listen({host, rendezvous.address.port}));
  job = {.rank = 0,
         .world_size = rendezvous.world_size,
         .coordinator = listener->address(),
         .token = rendezvous.token.empty() ? Hex(SecureRandom()) : rendezvous.token,
         .deadline = options.deadline};
  std::error_code error;
  std::filesystem::create_directories(options.run_directory, error);
  if (error) return Unavailable("make ", options.run_directory, ": ", error.message());
  if (options.handle_signals) {
    ASSIGN_OR_RETURN(signals, SignalWatch::Start(kSignals));
  }
  // Only now, with the port in hand: another job's files are not ours to replace.
  files_written = true;
  RETURN_IF_ERROR(WriteControlFile(options.run_directory, {job.coordinator, job.token}));
  CoordinatorServerOptions server_options = {
      .job = {.ranks = options.ranks,
              .job_description = options.job_description,
              .deadline = options.deadline,
              .slow = options.slow,
              .stall = options.stall,
              .start_limit = options.start_limit},
      .token = job.token,
      .on_event = options.on_event,
      .on_notice = options.on_notice,
      .on_query = [this](const std::string& query) { return requests.OnQuery(query, options); },
  };
  server = std::make_unique<CoordinatorServer>(std::move(listener), std::move(server_options));
  thread = std::thread([this] { Loop(); });
  return OkStatus();
}

// Turns the coordinator until rank 0 waits for the end and the end has come. Until then even a failed job is served: rank 0
// itself has its last word to say.
void HostedJob::State::Loop() {
  const Duration turn = std::min(kTick, options.deadline / 10);
  TimePoint next_tick = SystemClock().Now();
  for (;;) {
    server->Turn(Deadline::In(turn));
    TakeSignals();
    requests.Tell(machine(), options);
    const TimePoint now = SystemClock().Now();
    if (hurry && !machine().over()) {
      std::vector<std::string> missing;
      for (int rank = 0; rank < options.ranks; ++rank) {
        if (!machine().rank_state(rank).left) missing.push_back(Cat(rank));
      }
      machine().Fail(DeadlineExceeded("the job failed: rank 0's process ended the job, but ", missing.size() == 1 ? "rank " : "ranks ",
                                      Join(missing, ", "), " of ", options.ranks, " had not left it"),
                     ExitCode::kRankFailed, -1);
    }
    WriteTable(false);
    if (now >= next_tick) {
      next_tick = now + kTick;
      if (options.on_tick) options.on_tick();
    }
    if (!machine().over()) continue;
    if (!over_since.has_value()) over_since = now;
    // Links that are still open carry the end to their ranks.
    if (waited && (OthersGone() || now - *over_since >= options.stop_limit)) break;
  }
  const std::lock_guard lock(mutex);
  ended = true;
  changed.notify_all();
}

void HostedJob::State::TakeSignals() {
  if (!signals) return;
  for (const int signal : signals->Take()) {
    const StopSignals::Ask ask = stop_signals.On(signal, SystemClock().Now());
    if (ask == StopSignals::Ask::kStop) requests.Stop();
    if (ask != StopSignals::Ask::kEnd) continue;
    machine().Fail(Cancelled("the job was interrupted: its ranks were told to end at once"), ExitCode::kInterrupted, -1);
    signals.reset();
    return;
  }
}

void HostedJob::State::WriteTable(bool at_the_end) {
  std::pair<int, int> now = {0, 0};
  std::vector<ProcessEntry> entries;
  for (int rank = 0; rank < options.ranks; ++rank) {
    const Coordinator::RankState it = machine().rank_state(rank);
    if (!it.joined) continue;
    ++now.first;
    now.second += it.left ? 1 : 0;
    entries.push_back({it.pid, "rank", rank, it.host, it.left ? "left the job" : at_the_end ? "job over" : ""});
  }
  if (!at_the_end && std::exchange(table, now) == now) return;
  if (const Status written = WriteProcessTable(options.run_directory, entries); !written.ok() && options.on_notice) {
    options.on_notice(LogLevel::kWarning, Message(written));
  }
}

bool HostedJob::State::OthersGone() {
  for (int rank = 1; rank < options.ranks; ++rank) {
    if (machine().rank_state(rank).link_open) return false;
  }
  return true;
}

JobOutcome HostedJob::State::Finish() {
  thread.join();
  WriteTable(true);
  RemoveControlFile(options.run_directory);
  signals.reset();
  const Outcome outcome = *machine().outcome();  // the loop ends with one only
  const JobOutcome result = {outcome.code, outcome.status, machine().requests().stop, outcome.culprit};
  server.reset();
  return result;
}

StatusOr<std::unique_ptr<HostedJob>> HostedJob::Start(const Rendezvous& rendezvous, const JobOptions& options) {
  auto state = std::make_unique<State>();
  state->options = options;
  state->options.ranks = rendezvous.world_size;
  state->options.run_directory = rendezvous.run_directory;
  if (const Status prepared = state->Prepare(rendezvous); !prepared.ok()) {
    if (state->files_written) RemoveControlFile(state->options.run_directory);
    return WithExitCode(Annotate(prepared, Cat("hold the job's rendezvous as rank 0 of ", rendezvous.world_size)), ExitCode::kSetUp);
  }
  return std::unique_ptr<HostedJob>(new HostedJob(std::move(state)));
}

HostedJob::HostedJob(std::unique_ptr<State> state) : state_(std::move(state)) {}

HostedJob::~HostedJob() {
  if (state_->thread.joinable()) (void)Wait({});
}

const JobEnvironment& HostedJob::job() const { return state_->job; }
void HostedJob::RequestStop() { state_->requests.Stop(); }
void HostedJob::RequestSave() { state_->requests.Save(); }

JobOutcome HostedJob::Wait(Deadline deadline) {
  State& job = *state_;
  job.waited = true;
  {
    std::unique_lock lock(job.mutex);
    if (!job.changed.wait_until(lock, deadline.at, [&] { return job.ended; })) job.hurry = true;
  }
  return job.Finish();
}

struct StopBySignal::State {
  Member* member = nullptr;
  std::unique_ptr<SignalWatch> signals;
  std::atomic<bool> closing = false;
  std::thread thread;

  void Loop() {
    StopSignals stop_signals;
    while (!closing) {
      for (const int signal : signals->Take()) {
        const StopSignals::Ask ask = stop_signals.On(signal, SystemClock().Now());
        if (ask == StopSignals::Ask::kStop) (void)member->RequestStop();
        if (ask != StopSignals::Ask::kEnd) continue;
        signals.reset();
        kill(getpid(), SIGINT);
        return;
      }
      std::this_thread::sleep_for(milliseconds(50));
    }
  }
};

StatusOr<std::unique_ptr<StopBySignal>> StopBySignal::Start(Member& member) {
  auto state = std::make_unique<State>();
  state->member = &member;
  ASSIGN_OR_RETURN(state->signals, SignalWatch::Start(kSignals));
  state->thread = std::thread([it = state.get()] { it->Loop(); });
  return std::unique_ptr<StopBySignal>(new StopBySignal(std::move(state)));
}

StopBySignal::StopBySignal(std::unique_ptr<State> state) : state_(std::move(state)) {}

StopBySignal::~StopBySignal() {
  state_->closing = true;
  state_->thread.join();
}

}  // namespace dtrain
