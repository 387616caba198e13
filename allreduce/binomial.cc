#include "allreduce/binomial.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"

namespace dtrain {

BinomialBroadcast::BinomialBroadcast(const Group& group, std::span<std::byte> data, int root, const ChunkOptions& options)
    : group_(group),
      part_{.call = Call::kBroadcast, .detail = static_cast<uint8_t>(root), .total = static_cast<uint32_t>(data.size())},
      data_(data),
      chunk_bytes_(static_cast<size_t>(options.chunk_bytes)),
      window_(options.window) {
  DTRAIN_CHECK(group.size >= 2 && group.size <= kLinkRanksMax && root >= 0 && root < group.size);
  const auto size = static_cast<unsigned>(group.size);
  const auto from_root = static_cast<unsigned>((group.rank - root + group.size) % group.size);
  const auto rank_of = [&](unsigned place) { return static_cast<int>((place + static_cast<unsigned>(root)) % size); };
  const unsigned lowest_bit = from_root == 0 ? std::bit_ceil(size) : from_root & -from_root;
  for (unsigned bit = lowest_bit >> 1; bit > 0; bit >>= 1) {
    if (from_root + bit < size) children_.push_back({rank_of(from_root + bit)});
  }
  children_to_serve_ = children_.size();
  if (from_root == 0) {
    received_ = data.size();
    received_all_ = true;
  } else {
    parent_ = rank_of(from_root - lowest_bit);
  }
}

void BinomialBroadcast::Begin(Outbox& out) {
  for (Child& child : children_) SendSome(child, out);
}

void BinomialBroadcast::Sent(int to, Outbox& out) {
  for (Child& child : children_) {
    if (child.rank == to) SendSome(child, out);
  }
}

void BinomialBroadcast::SendSome(Child& child, Outbox& out) {
  // What is there ends at a chunk's end, so the cuts are the same for all. Nothing is a message too.
  while (!child.sent_all && (child.sent < received_ || received_all_) && out.unsent(child.rank) < window_) {
    const auto chunk = data_.subspan(child.sent, std::min(chunk_bytes_, data_.size() - child.sent));
    out.Send(child.rank, part_, DType::kU8, static_cast<int64_t>(child.sent), chunk);
    child.sent += chunk.size();
    child.sent_all = child.sent == data_.size();
    children_to_serve_ -= child.sent_all;
  }
}

Status BinomialBroadcast::Receive(Incoming in, Outbox& out) {
  RETURN_IF_ERROR(CheckSameCall(in, part_, DType::kU8));
  if (in.from != parent_) return Unexpected(in, part_, "is not the one from which this rank gets its part");
  if (UnpackPart(in.header.part).phase != 0) return Unexpected(in, part_, "is in another phase than the only one");
  const auto offset = static_cast<size_t>(in.header.offset);
  if (received_all_ || offset != received_) {
    return Unexpected(in, part_, Cat("sent bytes from ", offset, " on, of which ", received_, " are there"));
  }
  const auto payload = in.payload();
  if (const size_t count = std::min(chunk_bytes_, data_.size() - offset); payload.size() != count) {
    return Unexpected(in, part_, Cat("sent ", payload.size(), " bytes from ", offset, " on, expected ", count));
  }
  if (!payload.empty()) std::memcpy(data_.data() + offset, payload.data(), payload.size());
  received_ += payload.size();
  received_all_ = received_ == data_.size();
  for (Child& child : children_) SendSome(child, out);
  return OkStatus();
}

}  // namespace dtrain
