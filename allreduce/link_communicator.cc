#include "allreduce/link_communicator.h"

#include <algorithm>
#include <deque>
#include <thread>

#include "allreduce/binomial.h"
#include "allreduce/direct.h"
#include "allreduce/doubling.h"
#include "allreduce/ring.h"
#include "base/check.h"

namespace dtrain {
namespace {

constexpr Duration kHealthPoll = std::chrono::milliseconds(50);
// How long a receiver waits before it looks whether it is still wanted.
constexpr Duration kReceiveTurn = std::chrono::seconds(1);
// For the last words to the others when this rank gives up, and at its end.
constexpr Duration kLastWords = std::chrono::milliseconds(500);
// A message of so few bytes is sent by the calling thread itself, which saves two changes of thread; at most so many until
// something comes back, so that it never waits for a peer that does not take them.
constexpr size_t kAtOnceBytesMax = 16 << 10, kUnansweredBytesMax = 32 << 10;

}  // namespace

// All but `link` is under the communicator's mutex.
struct LinkCommunicator::Peer {
  struct Mail {
    std::vector<std::byte> message;
    Deadline deadline;
    bool counted = true;  // the session waits to hear that it left
  };
  int rank = 0;
  std::unique_ptr<Link> link;
  std::deque<std::vector<std::byte>> received;
  size_t received_bytes = 0;
  std::condition_variable room;
  Status receive_end;  // why no more comes; OK while more may
  bool end_told = false;
  std::deque<Mail> mails;
  std::condition_variable work;
  bool sending = false;   // one of the two threads is in Send
  size_t unanswered = 0;  // bytes sent by the calling thread since something came
  int sent = 0;           // not yet told to the session
  Status send_end;
  bool sender_done = false;
  std::thread receiver, sender;

  bool said_all() const { return mails.empty() && !sending; }
};

StatusOr<std::unique_ptr<LinkCommunicator>> LinkCommunicator::Open(std::vector<std::unique_ptr<Link>> links, const LinkOptions& options) {
  const Group& group = options.group;
  if (group.size < 1 || group.size > kLinkRanksMax || group.rank < 0 || group.rank >= group.size || group.view < 0) {
    return InvalidArgument("open a communicator over links: rank ", group.rank, " of ", group.size, " in view ", group.view,
                           "; expected a rank of 1 to ", kLinkRanksMax, " ranks");
  }
  if (links.size() != static_cast<size_t>(group.size)) {
    return InvalidArgument("open a communicator over links: ", links.size(), " links, expected one for each of ", group.size, " ranks");
  }
  for (int rank = 0; rank < group.size; ++rank) {
    if ((links[static_cast<size_t>(rank)] == nullptr) == (rank == group.rank)) continue;
    return InvalidArgument("open a communicator over links: rank ", group.rank,
                           rank == group.rank ? " has a link to itself" : " has no link to rank ", rank == group.rank ? "" : Cat(rank));
  }
  DTRAIN_CHECK(options.chunks.chunk_bytes >= 8 && options.chunks.chunk_bytes <= kFramePayloadBytesMax && options.chunks.window >= 1);
  return std::unique_ptr<LinkCommunicator>(new LinkCommunicator(std::move(links), options));
}

LinkCommunicator::LinkCommunicator(std::vector<std::unique_ptr<Link>> links, const LinkOptions& options)
    : options_(options), session_(options.group) {
  for (size_t rank = 0; rank < links.size(); ++rank) {
    peers_.push_back(std::make_unique<Peer>());
    Peer& peer = *peers_.back();
    peer.rank = static_cast<int>(rank);
    peer.link = std::move(links[rank]);
    if (peer.link == nullptr) continue;
    peer.receiver = std::thread([this, &peer] { ReceiveLoop(peer); });
    peer.sender = std::thread([this, &peer] { SendLoop(peer); });
  }
}

LinkCommunicator::~LinkCommunicator() {
  {
    std::unique_lock lock(mutex_);
    closing_ = true;
    for (const auto& peer : peers_) peer->work.notify_all(), peer->room.notify_all();
    const auto all_said = [&] {
      return std::ranges::all_of(peers_, [](const auto& peer) { return peer->link == nullptr || peer->sender_done; });
    };
    event_.wait_for(lock, kLastWords, all_said);
  }
  for (const auto& peer : peers_) {
    if (peer->link == nullptr) continue;
    peer->link->Close();
    peer->sender.join();
    peer->receiver.join();
  }
}

void LinkCommunicator::ReceiveLoop(Peer& peer) {
  for (;;) {
    auto message = peer.link->Receive(Deadline::In(kReceiveTurn));
    std::unique_lock lock(mutex_);
    if (closing_) return;
    if (message.ok()) {
      peer.received_bytes += message->size();
      peer.received.push_back(*std::move(message));
      // Woken without the lock held, the other thread need not wait for it at once.
      lock.unlock();
      event_.notify_one();
      lock.lock();
      peer.room.wait(lock, [&] { return closing_ || peer.received_bytes <= options_.waiting_bytes_max; });
    } else if (message.status().code() != StatusCode::kDeadlineExceeded) {
      peer.receive_end = message.status();
      event_.notify_one();
      return;
    }
  }
}

void LinkCommunicator::SendLoop(Peer& peer) {
  std::unique_lock lock(mutex_);
  for (;;) {
    peer.work.wait(lock, [&] { return !peer.sending && (closing_ || !peer.mails.empty()); });
    if (peer.mails.empty()) break;
    const Peer::Mail mail = std::move(peer.mails.front());
    peer.mails.pop_front();
    SendOne(peer, mail.message, mail.deadline, mail.counted, lock);
    if (!peer.send_end.ok()) break;
    if (!wake_when_sent_) continue;
    lock.unlock();
    event_.notify_one();
    lock.lock();
  }
  peer.sender_done = true;
  event_.notify_one();
}

void LinkCommunicator::SendOne(Peer& peer, std::span<const std::byte> message, Deadline deadline, bool counted,
                               std::unique_lock<std::mutex>& lock) {
  peer.sending = true;
  lock.unlock();
  const Status status = peer.link->Send(message, deadline);
  lock.lock();
  peer.sending = false;
  if (!status.ok() && peer.send_end.ok()) peer.send_end = status;
  peer.sent += status.ok() && counted;
}

void LinkCommunicator::Post(std::vector<Outgoing> messages, Deadline deadline) {
  std::unique_lock lock(mutex_);
  for (Outgoing& out : messages) {
    if (!ended_.ok()) return;
    Peer& peer = *peers_[static_cast<size_t>(out.to)];
    const size_t bytes = out.message.size();
    if (bytes <= kAtOnceBytesMax && peer.mails.empty() && !peer.sending && peer.send_end.ok() &&
        peer.unanswered + bytes <= std::min(kUnansweredBytesMax, options_.waiting_bytes_max / 4)) {
      peer.unanswered += bytes;
      SendOne(peer, out.message, deadline, true, lock);
      if (!peer.mails.empty()) peer.work.notify_one();
    } else {
      peer.mails.push_back({std::move(out.message), deadline});
      peer.work.notify_one();
    }
  }
}

bool LinkCommunicator::SomethingHappened() const {
  return !ended_.ok() || std::ranges::any_of(peers_, [&](const auto& peer) {
    if (peer->link == nullptr) return false;
    if ((peer->sent > 0 && wake_when_sent_) || !peer->send_end.ok()) return true;
    return session_.Takes(peer->rank) && (!peer->received.empty() || (!peer->receive_end.ok() && !peer->end_told));
  });
}

Status LinkCommunicator::TakeReceived(Peer& peer, std::unique_lock<std::mutex>& lock) {
  while (!peer.received.empty() && session_.Takes(peer.rank)) {
    std::vector<std::byte> message = std::move(peer.received.front());
    peer.received.pop_front();
    peer.received_bytes -= message.size();
    peer.unanswered = 0;
    peer.room.notify_one();
    lock.unlock();
    const Status status = session_.Receive(peer.rank, std::move(message));
    lock.lock();
    RETURN_IF_ERROR(status);
  }
  return OkStatus();
}

Status LinkCommunicator::HandleEvents() {
  std::unique_lock lock(mutex_);
  for (const auto& peer : peers_) {
    RETURN_IF_ERROR(ended_);
    for (; peer->sent > 0; --peer->sent) RETURN_IF_ERROR(session_.Sent(peer->rank));
    if (!peer->send_end.ok()) {
      // What it said last may say why; it has arrived when the link's end has.
      event_.wait_for(lock, kLastWords / 5, [&] { return !peer->receive_end.ok(); });
      RETURN_IF_ERROR(TakeReceived(*peer, lock));
      return Annotate(peer->send_end, Cat("send to rank ", peer->rank));
    }
    RETURN_IF_ERROR(TakeReceived(*peer, lock));
    // All that came before is told: often it says why the end came.
    if (!peer->receive_end.ok() && !peer->end_told && session_.Takes(peer->rank)) {
      peer->end_told = true;
      RETURN_IF_ERROR(session_.Gone(peer->rank, peer->receive_end));
    }
  }
  return OkStatus();
}

Status LinkCommunicator::RunToItsEnd(std::unique_ptr<Collective> collective, Deadline deadline) {
  RETURN_IF_ERROR(session_.Begin(std::move(collective), deadline.at));
  for (;;) {
    Post(session_.TakeOutgoing(), deadline);
    if (session_.done()) return OkStatus();
    bool happened;
    {
      std::unique_lock lock(mutex_);
      wake_when_sent_ = session_.WaitsForSent();
      happened = event_.wait_until(lock, std::min(deadline.at, SystemClock().Now() + kHealthPoll), [&] { return SomethingHappened(); });
    }
    if (happened) RETURN_IF_ERROR(HandleEvents());
    if (!happened) RETURN_IF_ERROR(options_.health());
    RETURN_IF_ERROR(session_.CheckTime(SystemClock().Now()));
  }
}

Status LinkCommunicator::Run(std::unique_ptr<Collective> collective, Deadline deadline) {
  {
    const std::lock_guard lock(mutex_);
    RETURN_IF_ERROR(ended_);
  }
  Status status = RunToItsEnd(std::move(collective), deadline);
  if (status.ok()) return status;
  End(status);
  // The caller may end the process next: the others would then see an end without its cause, and blame this rank.
  std::unique_lock lock(mutex_);
  event_.wait_for(lock, kLastWords / 5, [&] {
    return std::ranges::all_of(peers_, [](const auto& peer) { return peer->link == nullptr || peer->sender_done || peer->said_all(); });
  });
  return status;
}

void LinkCommunicator::End(const Status& why) {
  const std::lock_guard lock(mutex_);
  if (!ended_.ok()) return;
  ended_ = why;
  wake_when_sent_ = true;
  const auto last_words = session_.AbortMessage(why);
  for (const auto& peer : peers_) {
    if (peer->link == nullptr) continue;
    peer->mails.clear();
    peer->mails.push_back({last_words, Deadline::In(kLastWords), false});
    peer->work.notify_one();
  }
  event_.notify_all();
}

void LinkCommunicator::Abort() { End(Unavailable("rank ", rank(), " was aborted")); }

Status LinkCommunicator::Barrier(Deadline deadline) {
  if (size() == 1) return OkStatus();
  return Run(std::make_unique<Doubling>(options_.group), deadline);
}

Status LinkCommunicator::Broadcast(std::span<std::byte> data, int root, Deadline deadline) {
  DTRAIN_CHECK(root >= 0 && root < size());
  if (size() == 1) return OkStatus();
  return Run(std::make_unique<BinomialBroadcast>(options_.group, data, root, options_.chunks), deadline);
}

Status LinkCommunicator::Exchange(Call call, std::vector<std::span<const std::byte>> to, std::vector<std::span<std::byte>> from,
                                  Deadline deadline) {
  if (size() > 1) {
    return Run(std::make_unique<DirectExchange>(options_.group, call, std::move(to), std::move(from), options_.chunks), deadline);
  }
  DTRAIN_CHECK(to.size() == 1 && from.size() == 1 && to[0].size() == from[0].size());
  if (to[0].data() != from[0].data()) std::ranges::copy(to[0], from[0].begin());
  return OkStatus();
}

Status LinkCommunicator::AllGatherParts(std::span<const std::byte> mine, std::span<const std::span<std::byte>> parts, Deadline deadline) {
  DTRAIN_CHECK(parts.size() == static_cast<size_t>(size()) && parts[static_cast<size_t>(rank())].size() == mine.size());
  std::vector<std::span<const std::byte>> to(parts.size(), mine);
  return Exchange(Call::kAllGather, std::move(to), {parts.begin(), parts.end()}, deadline);
}

Status LinkCommunicator::AllToAll(std::span<const std::span<const std::byte>> to, std::span<const std::span<std::byte>> from,
                                  Deadline deadline) {
  return Exchange(Call::kAllToAll, {to.begin(), to.end()}, {from.begin(), from.end()}, deadline);
}

Status LinkCommunicator::AllReduce(Elements data, Deadline deadline) {
  RETURN_IF_ERROR(CheckSummable(data));
  if (size() == 1) return OkStatus();
  if (static_cast<int64_t>(data.bytes.size()) <= options_.tree_bytes_max) {
    return Run(std::make_unique<Doubling>(options_.group, data, options_.chunks), deadline);
  }
  return Run(std::make_unique<RingReduce>(options_.group, data, options_.chunks), deadline);
}

Status LinkCommunicator::ReduceScatter(ConstElements data, Elements slice, Deadline deadline) {
  RETURN_IF_ERROR(CheckSummable(data));
  RETURN_IF_ERROR(CheckSummable(slice));
  DTRAIN_CHECK(slice.dtype == data.dtype && slice.count() == SliceOf(data.count(), rank(), size()).size());
  if (size() == 1) {
    if (slice.bytes.data() != data.bytes.data()) std::ranges::copy(data.bytes, slice.bytes.begin());
    return OkStatus();
  }
  return Run(std::make_unique<RingReduce>(options_.group, data, slice, options_.chunks), deadline);
}

}  // namespace dtrain
