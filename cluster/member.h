// A rank's side of the membership: joins the job, beats from a thread of its own (a long computation does not look like
// death), gathers small facts from all ranks, hears that the job failed, and says its last word.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/transport.h"
#include "base/view.h"
#include "cluster/job_environment.h"
#include "cluster/messages.h"

namespace dtrain {

// What people asked for since the job began.
struct Requests {
  bool stop = false;
  int64_t saves = 0;  // checkpoints asked for so far
};

class Member {
 public:
  // In the job once this returns; the others may not be yet (the first AllGather waits for them). Tries again while nobody
  // listens, until `deadline`. kPermissionDenied with the coordinator's reason if it refuses; kUnavailable,
  // kDeadlineExceeded if it is not there. `transport` and `clock` must outlive the member.
  static StatusOr<std::unique_ptr<Member>> Join(Transport& transport, const JobEnvironment& job, const Clock& clock, Deadline deadline);
  // Without a Leave before, the coordinator takes this for a death.
  ~Member();
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  int rank() const { return job_.rank; }
  int world_size() const { return job_.world_size; }
  const JobEnvironment& job() const { return job_; }  // how it joined: coordinator and token
  const std::string& job_description() const { return job_description_; }
  Duration deadline() const { return deadline_; }

  // The training began `step`; heartbeats carry it. Cheap, from any thread.
  void Advance(Step step);
  // This rank waits for others (true) or goes on (false); what tells a slow rank from those that wait for it. Cheap.
  void SetWaiting(bool waiting);

  // OK, or why the job failed: another rank's failure (with the job's exit code attached), or kUnavailable once the
  // coordinator is lost. Never blocks and costs one atomic load while all is well, so barriers poll it.
  Status Health() const;

  // Every rank's `mine`, in order of ranks; `tag` and the order of calls must be the same on all ranks, else the job fails
  // and the message names both tags. `mine` is at most kGatherPartBytesMax (kInvalidArgument). One call at a time. After
  // any other error the member is only good for Leave.
  StatusOr<std::vector<std::string>> AllGather(std::string_view tag, std::string_view mine, Deadline deadline);

  // One way to the launcher's on_event. Waits at most 100 ms for room, then kResourceExhausted.
  Status Report(std::string event);

  // A signal asked this rank to end: the whole job is asked to save and stop. As Report does, waits for room only.
  Status RequestStop();

  // What people asked for so far. Only rank 0 is told; it tells the others through the training itself. Cheap.
  Requests requests() const;

  // The last word, with the exit code that `outcome` carries. OK once the coordinator has taken it: the process may end,
  // and silence is no death. kUnavailable, kDeadlineExceeded if it did not hear it. Once only.
  Status Leave(const Status& outcome, Deadline deadline);

 private:
  Member(std::unique_ptr<Link> link, const JobEnvironment& job, const Welcome& welcome, const Clock& clock);
  void ReceiveLoop();
  void SendLoop();
  void Handle(ControlMessage& message);
  void Fail(const Status& why, bool lost);
  Status Post(const ControlMessage& message, Deadline deadline);

  const JobEnvironment job_;
  const std::string job_description_;
  const Duration deadline_;
  const Clock& clock_;
  const std::unique_ptr<Link> link_;

  std::atomic<Step> step_ = -1;
  std::atomic<uint64_t> progress_ = 0;
  std::atomic<bool> waiting_ = false;
  std::atomic<bool> stop_ = false;
  std::atomic<int64_t> saves_ = 0;
  std::atomic<bool> failed_ = false;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // anything below, or the outbox
  Status failure_;
  bool lost_ = false;  // nothing goes to or comes from the coordinator any more
  std::deque<std::vector<std::byte>> outbox_;
  size_t outbox_bytes_ = 0;
  std::optional<Gathered> gathered_;
  uint64_t gather_sequence_ = 0;
  bool gathering_ = false;
  bool leaving_ = false;
  bool farewell_ = false;
  bool closing_ = false;
  std::thread receiver_, sender_;
};

}  // namespace dtrain
