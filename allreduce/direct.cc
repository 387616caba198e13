#include "allreduce/direct.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace dtrain {

DirectExchange::DirectExchange(const Group& group, Call call, std::vector<std::span<const std::byte>> to,
                               std::vector<std::span<std::byte>> from, const ChunkOptions& options)
    : group_(group),
      part_{.call = call},
      to_(std::move(to)),
      from_(std::move(from)),
      chunk_bytes_(static_cast<size_t>(options.chunk_bytes)),
      window_(options.window),
      peers_(static_cast<size_t>(group.size)),
      ranks_to_send_(group.size - 1),
      ranks_to_receive_(group.size - 1) {
  const auto rank = static_cast<size_t>(group.rank);
  DTRAIN_CHECK(group.size >= 2 && group.size <= kLinkRanksMax && to_.size() == peers_.size() && from_.size() == peers_.size());
  DTRAIN_CHECK(to_[rank].size() == from_[rank].size());
}

Part DirectExchange::PartOf(size_t bytes) const {
  Part part = part_;
  part.total = static_cast<uint32_t>(bytes);
  return part;
}

void DirectExchange::Begin(Outbox& out) {
  const auto rank = static_cast<size_t>(group_.rank);
  if (!to_[rank].empty() && to_[rank].data() != from_[rank].data()) {
    std::memmove(from_[rank].data(), to_[rank].data(), to_[rank].size());
  }
  // Each begins with its right neighbour, so that not all send to the same rank at once.
  for (int step = 1; step < group_.size; ++step) SendSome((group_.rank + step) % group_.size, out);
}

void DirectExchange::Sent(int to, Outbox& out) { SendSome(to, out); }

void DirectExchange::SendSome(int to, Outbox& out) {
  Peer& peer = peers_[static_cast<size_t>(to)];
  const auto bytes = to_[static_cast<size_t>(to)];
  while (!peer.sent_all && out.unsent(to) < window_) {  // nothing is a message too
    const auto chunk = bytes.subspan(peer.sent, std::min(chunk_bytes_, bytes.size() - peer.sent));
    out.Send(to, PartOf(bytes.size()), DType::kU8, static_cast<int64_t>(peer.sent), chunk);
    peer.sent += chunk.size();
    peer.sent_all = peer.sent == bytes.size();
    ranks_to_send_ -= peer.sent_all;
  }
}

Status DirectExchange::Receive(Incoming in, Outbox&) {
  const auto to = from_[static_cast<size_t>(in.from)];
  Peer& peer = peers_[static_cast<size_t>(in.from)];
  const Part expected = PartOf(to.size());
  RETURN_IF_ERROR(CheckSameCall(in, expected, DType::kU8));
  if (UnpackPart(in.header.part).phase != 0) return Unexpected(in, expected, "is in another phase than the only one");
  const auto offset = static_cast<size_t>(in.header.offset);
  if (peer.received_all || offset != peer.received) {
    return Unexpected(in, expected,
                      Cat("sent bytes from ", offset, " on ", offset < peer.received || peer.received_all ? "again" : "too early",
                          ", of which ", peer.received, " are there"));
  }
  const auto payload = in.payload();
  if (const size_t count = std::min(chunk_bytes_, to.size() - offset); payload.size() != count) {
    return Unexpected(in, expected, Cat("sent ", payload.size(), " bytes from ", offset, " on, expected ", count));
  }
  if (!payload.empty()) std::memcpy(to.data() + offset, payload.data(), payload.size());
  peer.received += payload.size();
  peer.received_all = peer.received == to.size();
  ranks_to_receive_ -= peer.received_all;
  return OkStatus();
}

}  // namespace dtrain
