// The sequence of collectives of one rank as a state machine: which collective is under way, which message belongs to it,
// which is early, old or wrong, when a wait is over. Nothing from a peer is used before it was checked here.
// A frame belongs to a job, a view, an exchange and a place in the sequence (the frame's step). One of an older view is
// dropped and counted. A rank may be ahead: its first message for a later collective is kept, and no more are taken from
// it until its turn, so that what it sends waits in front of the session, with its bound.
// Messages of one rank must come in the order in which it sent them.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "allreduce/collective.h"
#include "base/clock.h"

namespace dtrain {

class Session {
 public:
  explicit Session(const Group& group);

  // The next collective; the one before is done. All calls return the first error that any of them returned.
  Status Begin(std::unique_ptr<Collective> collective, TimePoint deadline);
  // Whether a message from that rank is wanted now. Only then give it to Receive.
  bool Takes(int from) const;
  // kDataLoss for what is no frame; kAborted for a newer view; kInvalidArgument for another job or a message that does not
  // belong to what this rank is doing; kUnavailable if it says that its sender has given up. All name the rank.
  Status Receive(int from, std::vector<std::byte> message);
  // One of the messages to `to` has left.
  Status Sent(int to);
  // Nothing more comes from that rank, after all that was given to Receive; an error if something is still needed.
  Status Gone(int from, const Status& why);
  // kDeadlineExceeded naming the ranks from which something is missing.
  Status CheckTime(TimePoint now);

  // The collective is complete here, and everything this rank had to send has left.
  bool done() const { return collective_ == nullptr || (collective_->done() && out_.unsent() == 0); }
  // Nothing goes on here before more messages have left; else it is enough to tell Sent when something arrives.
  bool WaitsForSent() const { return collective_ != nullptr && (collective_->WaitsForRoom() || collective_->done()); }
  std::vector<Outgoing> TakeOutgoing() { return out_.Take(); }
  // What tells the others that this rank has given up, and why. From any thread.
  std::vector<std::byte> AbortMessage(const Status& why) const;
  int64_t dropped_of_older_views() const { return dropped_of_older_views_; }
  const Status& status() const { return status_; }

 private:
  Status Keep(const Status& status);
  Status Deliver(int from, const FrameHeader& header, std::vector<std::byte> message);
  Status CheckGone(int from) const;
  Status LeftOut(int from, int64_t its_sequence) const;
  std::string Named() const;

  const Group group_;
  Outbox out_;
  int64_t sequence_ = -1;
  std::unique_ptr<Collective> collective_;
  TimePoint deadline_;
  struct Early {
    FrameHeader header;
    std::vector<std::byte> message;
  };
  std::vector<std::optional<Early>> early_;  // by rank
  std::vector<Status> gone_;                 // by rank; OK while it is there
  int64_t dropped_of_older_views_ = 0;
  Status status_;
};

}  // namespace dtrain
