#include "allreduce/session.h"

#include <algorithm>

#include "base/check.h"

namespace dtrain {
namespace {

constexpr size_t kAbortTextBytesMax = 512;

// What a peer says, fit for a terminal and a log.
std::string Printable(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes.first(std::min(bytes.size(), kAbortTextBytesMax))) {
    const char letter = static_cast<char>(byte);
    text += letter >= ' ' && letter <= '~' ? letter : '?';
  }
  return text;
}

}  // namespace

Session::Session(const Group& group)
    : group_(group), out_(group), early_(static_cast<size_t>(group.size)), gone_(static_cast<size_t>(group.size)) {
  DTRAIN_CHECK(group.size >= 1 && group.size <= kLinkRanksMax && group.rank >= 0 && group.rank < group.size);
}

Status Session::Keep(const Status& status) {
  if (status_.ok()) status_ = status;
  return status_;
}

std::string Session::Named() const { return Cat(Describe(collective_->part()), " (collective ", sequence_, ")"); }

Status Session::Begin(std::unique_ptr<Collective> collective, TimePoint deadline) {
  RETURN_IF_ERROR(status_);
  DTRAIN_CHECK(done());
  collective_ = std::move(collective);
  deadline_ = deadline;
  out_.set_sequence(++sequence_);
  collective_->Begin(out_);
  for (int rank = 0; rank < group_.size; ++rank) {
    auto& early = early_[static_cast<size_t>(rank)];
    if (early.has_value() && early->header.step == sequence_) {
      Early now = *std::exchange(early, std::nullopt);
      RETURN_IF_ERROR(Keep(Deliver(rank, now.header, std::move(now.message))));
    }
    if (early.has_value() && collective_->Needs(rank)) return Keep(LeftOut(rank, early->header.step));
    RETURN_IF_ERROR(Keep(CheckGone(rank)));
  }
  return OkStatus();
}

Status Session::LeftOut(int from, int64_t its_sequence) const {
  return InvalidArgument(Named(), ": rank ", from, " is at collective ", its_sequence,
                         " already and left out something of this one; all ranks must make the same calls in the same order");
}

bool Session::Takes(int from) const { return status_.ok() && !early_[static_cast<size_t>(from)].has_value(); }

Status Session::Receive(int from, std::vector<std::byte> message) {
  RETURN_IF_ERROR(status_);
  DTRAIN_CHECK(from >= 0 && from < group_.size && from != group_.rank && Takes(from));
  const auto frame = ParseFrame(message);
  if (!frame.ok()) return Keep(Annotate(frame.status(), Cat("receive from rank ", from)));
  const FrameHeader header = frame->header;
  if (header.job != group_.job || header.exchange != group_.exchange) {
    return Keep(InvalidArgument("receive from rank ", from, ": a message of job ", header.job, ", exchange ", header.exchange,
                                "; this is job ", group_.job, ", exchange ", group_.exchange));
  }
  if (header.view < group_.view) {
    ++dropped_of_older_views_;
    return OkStatus();
  }
  if (header.view > group_.view) {
    return Keep(Aborted("receive from rank ", from, ": it is in view ", header.view, " already, this rank in view ", group_.view));
  }
  if (UnpackPart(header.part).call == Call::kAbort) {
    return Keep(Unavailable("rank ", from, " gave up: ", Printable(frame->payload)));
  }
  if (header.step > sequence_) {
    // It has sent all that it had to send for the present one.
    if (collective_ != nullptr && collective_->Needs(from)) {
      return Keep(LeftOut(from, header.step));
    }
    early_[static_cast<size_t>(from)] = Early{header, std::move(message)};
    return OkStatus();
  }
  if (header.step < sequence_ || collective_ == nullptr) {
    return Keep(InvalidArgument("receive from rank ", from, ": a message for collective ", header.step, " (",
                                Describe(UnpackPart(header.part)), "), which is over; this rank is at ", sequence_));
  }
  return Keep(Deliver(from, header, std::move(message)));
}

Status Session::Deliver(int from, const FrameHeader& header, std::vector<std::byte> message) {
  return collective_->Receive({from, header, std::move(message)}, out_);
}

Status Session::Sent(int to) {
  RETURN_IF_ERROR(status_);
  out_.CountSent(to);
  collective_->Sent(to, out_);
  return OkStatus();
}

Status Session::Gone(int from, const Status& why) {
  RETURN_IF_ERROR(status_);
  DTRAIN_CHECK(!why.ok());
  gone_[static_cast<size_t>(from)] = why;
  return Keep(CheckGone(from));
}

Status Session::CheckGone(int from) const {
  const Status& why = gone_[static_cast<size_t>(from)];
  // A rank that is through leaves; only what is still needed is missed.
  if (why.ok() || collective_ == nullptr || !collective_->Needs(from)) return OkStatus();
  return Annotate(why, Cat(Named(), ": rank ", from, " is gone"));
}

Status Session::CheckTime(TimePoint now) {
  RETURN_IF_ERROR(status_);
  if (done() || now < deadline_) return OkStatus();
  std::vector<std::string> silent, slow;
  for (int rank = 0; rank < group_.size; ++rank) {
    if (collective_->Needs(rank)) silent.push_back(Cat(rank));
    if (out_.unsent(rank) > 0) slow.push_back(Cat(rank));
  }
  const auto ranks = [](const std::vector<std::string>& list) { return Cat(list.size() == 1 ? "rank " : "ranks ", Join(list, ", ")); };
  if (!silent.empty()) return Keep(DeadlineExceeded(Named(), ": ", ranks(silent), " did not send what is missing in time"));
  return Keep(DeadlineExceeded(Named(), ": ", ranks(slow), " did not take what was for them in time"));
}

std::vector<std::byte> Session::AbortMessage(const Status& why) const {
  std::string text = Message(why).substr(0, kAbortTextBytesMax);
  const auto payload = std::as_bytes(std::span(text));
  const FrameHeader header = {.kind = FrameKind::kControl,
                              .dtype = DType::kU8,
                              .job = group_.job,
                              .view = group_.view,
                              .exchange = group_.exchange,
                              .part = Pack({.call = Call::kAbort}),
                              .payload_bytes = static_cast<uint32_t>(payload.size())};
  auto message = EncodeFrameHeader(header, payload);
  message.insert(message.end(), payload.begin(), payload.end());
  return message;
}

}  // namespace dtrain
