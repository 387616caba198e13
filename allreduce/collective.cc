#include "allreduce/collective.h"

#include <algorithm>

#include "base/check.h"

namespace dtrain {

uint64_t Pack(const Part& part) {
  return static_cast<uint64_t>(part.call) << 56 | static_cast<uint64_t>(part.detail) << 48 | static_cast<uint64_t>(part.phase) << 40 |
         static_cast<uint64_t>(part.scheme) << 32 | part.total;
}

Part UnpackPart(uint64_t packed) {
  const auto byte = [packed](int shift) { return static_cast<uint8_t>(packed >> shift); };
  return {static_cast<Call>(byte(56)), byte(48), byte(40), byte(32), static_cast<uint32_t>(packed)};
}

std::string Describe(const Part& part) {
  constexpr const char* kNames[] = {"Abort", "Barrier", "Broadcast", "AllGather", "AllToAll", "ReduceScatter", "AllReduce"};
  const auto call = static_cast<size_t>(part.call);
  if (call >= std::size(kNames)) return "an unknown call";
  if (part.call == Call::kBarrier || part.call == Call::kAbort) return kNames[call];
  const bool sum = part.call == Call::kReduceScatter || part.call == Call::kAllReduce;
  return Cat(
      kNames[call], part.call == Call::kBroadcast ? Cat(" from rank ", int{part.detail}) : "", " of ", part.total, " elements",
      sum ? Cat(" of type ", part.detail <= static_cast<uint8_t>(DType::kBool) ? SafetensorsName(static_cast<DType>(part.detail)) : "?")
          : "");
}

FrameHeader Outbox::Header(const Part& part, DType dtype, int64_t offset, size_t payload_bytes) const {
  return {.kind = FrameKind::kReduce,
          .dtype = dtype,
          .job = group_.job,
          .view = group_.view,
          .exchange = group_.exchange,
          .step = sequence_,
          .part = Pack(part),
          .offset = offset,
          .payload_bytes = static_cast<uint32_t>(payload_bytes)};
}

void Outbox::Put(int to, std::vector<std::byte> message) {
  DTRAIN_CHECK(to >= 0 && to < group_.size && to != group_.rank);
  ++unsent_[static_cast<size_t>(to)];
  ++unsent_total_;
  messages_.push_back({to, std::move(message)});
}

void Outbox::Send(int to, const Part& part, DType dtype, int64_t offset, std::span<const std::byte> payload) {
  const auto header = EncodeFrameHeader(Header(part, dtype, offset, payload.size()), payload);
  std::vector<std::byte> message;
  message.reserve(header.size() + payload.size());
  message.insert(message.end(), header.begin(), header.end());
  message.insert(message.end(), payload.begin(), payload.end());
  Put(to, std::move(message));
}

void Outbox::SendInPlace(int to, const Part& part, DType dtype, int64_t offset, std::vector<std::byte> message) {
  const auto payload = std::span<const std::byte>(message).subspan(kFrameHeaderBytes);
  const auto header = EncodeFrameHeader(Header(part, dtype, offset, payload.size()), payload);
  std::ranges::copy(header, message.begin());
  Put(to, std::move(message));
}

void Outbox::Forward(int to, std::vector<std::byte> message) { Put(to, std::move(message)); }

void Outbox::CountSent(int to) {
  DTRAIN_CHECK(to >= 0 && to < group_.size && unsent_[static_cast<size_t>(to)] > 0);
  --unsent_[static_cast<size_t>(to)];
  --unsent_total_;
}

Status Unexpected(const Incoming& in, const Part& expected, std::string_view what) {
  return InvalidArgument(Describe(expected), ": rank ", in.from, " ", what, "; all ranks must make the same calls in the same order");
}

Status CheckSameCall(const Incoming& in, const Part& expected, DType dtype) {
  Part found = UnpackPart(in.header.part);
  found.phase = expected.phase;
  if (found != expected) {
    if (found.scheme != expected.scheme && found.call == expected.call) return Unexpected(in, expected, "uses another algorithm for it");
    return Unexpected(in, expected, Cat("called ", Describe(found)));
  }
  if (in.header.dtype != dtype) {
    return Unexpected(in, expected, Cat("sent elements of type ", SafetensorsName(in.header.dtype), ", expected ", SafetensorsName(dtype)));
  }
  return OkStatus();
}

}  // namespace dtrain
