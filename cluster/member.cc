#include "cluster/member.h"

#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/check.h"
#include "cluster/handshake.h"

namespace dtrain {
namespace {

using std::chrono::milliseconds;

constexpr size_t kOutboxBytesMax = 4 << 20;
constexpr Duration kRoomPatience = milliseconds(100);
constexpr Duration kBeatMax = milliseconds(200);  // so that the step in a message about a death is a fresh one
constexpr Duration kConnectPause = milliseconds(50);

}  // namespace

StatusOr<std::unique_ptr<Member>> Member::Join(Transport& transport, const JobEnvironment& job, const Clock& clock, Deadline deadline) {
  const std::string what = Cat("rank ", job.rank, " of ", job.world_size, ": join the job at ", ToText(job.coordinator));
  Hello hello{.role = PeerRole::kRank, .rank = job.rank, .world_size = job.world_size, .pid = getpid(), .host = HostName()};
  for (;;) {
    Status failed;
    if (auto link = transport.Connect(job.coordinator, deadline); !link.ok()) {
      failed = link.status();
    } else if (auto welcome = Introduce(**link, job.token, hello, deadline); !welcome.ok()) {
      failed = welcome.status();
    } else {
      return std::unique_ptr<Member>(new Member(*std::move(link), job, *welcome, clock));
    }
    // The coordinator may not listen yet, or have cut us among a crowd of strangers.
    if (failed.code() != StatusCode::kUnavailable || deadline.Left(clock) <= kConnectPause) return Annotate(failed, what);
    std::this_thread::sleep_for(kConnectPause);
  }
}

Member::Member(std::unique_ptr<Link> link, const JobEnvironment& job, const Welcome& welcome, const Clock& clock)
    : job_(job), job_description_(welcome.job_description), deadline_(welcome.deadline), clock_(clock), link_(std::move(link)) {
  receiver_ = std::thread([this] { ReceiveLoop(); });
  sender_ = std::thread([this] { SendLoop(); });
}

Member::~Member() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  link_->Close();
  receiver_.join();
  sender_.join();
}

void Member::Advance(Step step) {
  step_.store(step, std::memory_order_relaxed);
  progress_.fetch_add(1, std::memory_order_relaxed);
}

void Member::SetWaiting(bool waiting) {
  if (waiting_.exchange(waiting, std::memory_order_relaxed) && !waiting) progress_.fetch_add(1, std::memory_order_relaxed);
}

Requests Member::requests() const { return {stop_.load(), saves_.load()}; }

Status Member::Health() const {
  if (!failed_.load(std::memory_order_acquire)) return OkStatus();
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Member::Fail(const Status& why, bool lost) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    lost_ = lost_ || lost;
    if (failure_.ok() && !farewell_) {
      failure_ = why;
      failed_.store(true, std::memory_order_release);
    }
  }
  changed_.notify_all();
}

// Silence counts only while we listen: a process that was stopped for a while does not blame the coordinator for it.
void Member::ReceiveLoop() {
  TimePoint heard = clock_.Now(), turned = heard;
  for (;;) {
    auto message = ReceiveMessage(*link_, Deadline::In(deadline_ / 10, clock_));
    const TimePoint now = clock_.Now();
    if (now - turned > deadline_ / 2) heard += now - turned;
    turned = now;
    if (message.ok()) {
      heard = now;
      Handle(*message);
    } else if (message.status().code() != StatusCode::kDeadlineExceeded) {
      return Fail(WithExitCode(Unavailable("lost the coordinator of the job: ", Message(message.status())), ExitCode::kRankFailed), true);
    } else if (now - heard >= deadline_) {
      return Fail(WithExitCode(Unavailable("lost the coordinator of the job: ", link_->peer(), " has been silent for ",
                                           HumanSeconds(Seconds(now - heard))),
                               ExitCode::kRankFailed),
                  true);
    }
    const std::lock_guard lock(mutex_);
    if (closing_) return;
  }
}

void Member::Handle(ControlMessage& message) {
  if (std::holds_alternative<Heartbeat>(message)) return;
  if (const auto* failed = std::get_if<Failed>(&message)) {
    return Fail(WithExitCode(Unavailable(failed->why), static_cast<ExitCode>(failed->exit_code)), false);
  }
  if (const auto* request = std::get_if<Request>(&message)) {
    stop_ = request->stop;
    saves_ = request->saves;
    return;
  }
  if (auto* gathered = std::get_if<Gathered>(&message)) {
    if (gathered->parts.size() != static_cast<size_t>(job_.world_size)) {
      return Fail(
          DataLoss("all-gather \"", gathered->tag, "\": found parts of ", gathered->parts.size(), " ranks, expected ", job_.world_size),
          false);
    }
    const std::lock_guard lock(mutex_);
    gathered_ = std::move(*gathered);
  } else if (std::holds_alternative<Farewell>(message)) {
    const std::lock_guard lock(mutex_);
    farewell_ = true;
  } else {
    return Fail(DataLoss("the coordinator sent a ", NameOf(message), ", which no rank expects"), false);
  }
  changed_.notify_all();
}

void Member::SendLoop() {
  const Duration every = std::min(deadline_ / 5, kBeatMax);
  TimePoint next_beat = clock_.Now();
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait_until(lock, next_beat, [&] { return closing_ || lost_ || !outbox_.empty(); });
    if (closing_ || lost_) return;
    std::vector<std::byte> message;
    if (const TimePoint now = clock_.Now(); now >= next_beat) {
      message = Encode(Heartbeat{step_.load(), progress_.load(), waiting_.load()});
      next_beat = now + every;
    } else if (!outbox_.empty()) {
      message = std::move(outbox_.front());
      outbox_.pop_front();
      outbox_bytes_ -= message.size();
    } else {
      continue;
    }
    lock.unlock();
    changed_.notify_all();  // there is room
    const Status sent = link_->Send(message, Deadline::In(deadline_, clock_));
    if (!sent.ok()) {
      // The receiver may still have the cause to read, so it is the one to say that the link is lost.
      if (sent.code() == StatusCode::kDeadlineExceeded) link_->Close();
      return;
    }
    lock.lock();
  }
}

Status Member::Post(const ControlMessage& message, Deadline deadline) {
  std::vector<std::byte> bytes = Encode(message);
  {
    std::unique_lock lock(mutex_);
    const auto room = [&] { return lost_ || outbox_bytes_ + bytes.size() <= kOutboxBytesMax; };
    if (!changed_.wait_until(lock, deadline.at, room)) {
      return ResourceExhausted("send a ", NameOf(message), " to the coordinator: ", outbox_bytes_, " bytes wait already");
    }
    if (lost_) return failure_.ok() ? Unavailable("the coordinator is lost") : failure_;
    outbox_bytes_ += bytes.size();
    outbox_.push_back(std::move(bytes));
  }
  changed_.notify_all();
  return OkStatus();
}

StatusOr<std::vector<std::string>> Member::AllGather(std::string_view tag, std::string_view mine, Deadline deadline) {
  const std::string what = Cat("all-gather \"", tag, "\"");
  if (tag.empty() || tag.size() > 256) return InvalidArgument(what, ": the tag must have 1 to 256 bytes");
  if (mine.size() > kGatherPartBytesMax) {
    return InvalidArgument(what, ": found ", mine.size(), " bytes, expected at most ", kGatherPartBytesMax);
  }
  uint64_t sequence = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!failure_.ok()) return Annotate(failure_, what);
    if (leaving_) return FailedPrecondition(what, ": this rank has left the job");
    if (gathering_) return FailedPrecondition(what, ": the one before has not ended; after its error only Leave is allowed");
    gathering_ = true;
    sequence = gather_sequence_++;
  }
  RETURN_IF_ERROR(Post(Gather{std::string(tag), sequence, std::string(mine)}, deadline));
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline.at, [&] { return gathered_.has_value() || !failure_.ok(); });
  if (!gathered_.has_value()) {
    if (!failure_.ok()) return Annotate(failure_, what);
    return DeadlineExceeded(what, ": not all of the ", job_.world_size, " ranks sent their part in time");
  }
  const Gathered all = *std::exchange(gathered_, std::nullopt);
  if (all.sequence != sequence || all.tag != tag) {
    return DataLoss(what, " (number ", sequence, "): found the parts of \"", all.tag, "\" (number ", all.sequence, ")");
  }
  gathering_ = false;
  return all.parts;
}

Status Member::Report(std::string event) {
  if (event.size() > kControlTextBytesMax) {
    return InvalidArgument("report an event: found ", event.size(), " bytes, expected at most ", kControlTextBytesMax);
  }
  return Post(Event{std::move(event)}, Deadline::In(kRoomPatience, clock_));
}

Status Member::RequestStop() { return Post(Request{.stop = true}, Deadline::In(kRoomPatience, clock_)); }

Status Member::Leave(const Status& outcome, Deadline deadline) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(leaving_, true)) return FailedPrecondition("leave the job: this rank has left already");
  }
  const dtrain::Leave leave{.status_code = static_cast<int>(outcome.code()),
                            .message = Message(outcome),
                            .exit_code = outcome.ok() ? 0 : static_cast<int>(ExitCodeOf(outcome, static_cast<ExitCode>(-1))),
                            .step = step_.load()};
  RETURN_IF_ERROR(Annotate(Post(leave, deadline), "leave the job"));
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline.at, [&] { return farewell_ || lost_; });
  if (farewell_) return OkStatus();
  if (lost_) return Annotate(failure_.ok() ? Unavailable("the coordinator is lost") : failure_, "leave the job");
  return DeadlineExceeded("leave the job: the coordinator did not answer in time");
}

}  // namespace dtrain
