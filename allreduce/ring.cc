#include "allreduce/ring.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace dtrain {

RingReduce::RingReduce(const Group& group, Elements data, const ChunkOptions& options)
    : RingReduce(group, data, {data.dtype, data.bytes}, options, true) {}

RingReduce::RingReduce(const Group& group, ConstElements data, Elements slice, const ChunkOptions& options)
    : RingReduce(group, data, slice, options, false) {}

RingReduce::RingReduce(const Group& group, ConstElements data, Elements result, const ChunkOptions& options, bool gather)
    : group_(group),
      gather_(gather),
      data_(data),
      all_(gather ? result.bytes.data() : nullptr),
      slice_(result.bytes.data() + (gather ? Slice(group.rank).begin * ElementBytes(data.dtype) : 0)),
      part_{.call = gather ? Call::kAllReduce : Call::kReduceScatter,
            .detail = static_cast<uint8_t>(data.dtype),
            .scheme = 1,
            .total = static_cast<uint32_t>(data.count())},
      element_bytes_(ElementBytes(data.dtype)),
      chunk_elements_(std::max<int64_t>(options.chunk_bytes / ElementBytes(AccumulatorOf(data.dtype)), 1)),
      window_(options.window) {
  DTRAIN_CHECK(group.size >= 2 && group.size <= kLinkRanksMax && options.window >= 1);
  DTRAIN_CHECK(gather || result.count() == Slice(group.rank).size());
  for (auto& next : next_) {
    for (int slice = 0; slice < group.size; ++slice) next.push_back(Slice(slice).begin);
  }
  const int64_t count = data.count();
  missing_ = count - Slice(Rank(group.rank - 1)).size();
  if (gather) missing_ += count - Slice(group.rank).size();
  begun_ = Slice(Rank(group.rank - 1)).begin;
}

Part RingReduce::InPhase(uint8_t phase) const {
  Part part = part_;
  part.phase = phase;
  return part;
}

int RingReduce::SliceAt(int64_t element) const {
  int slice = 0;
  while (slice < group_.size && element >= Slice(slice).end) ++slice;
  return slice;
}

void RingReduce::Begin(Outbox& out) { BeginChunks(out); }

void RingReduce::BeginChunks(Outbox& out) {
  const ElementRange slice = Slice(Rank(group_.rank - 1));
  const DType wire = AccumulatorOf(data_.dtype);
  while (begun_ < slice.end && chunks_begun_ < chunks_ended_ + window_) {
    const int64_t count = Chunk(begun_, slice.end);
    const auto mine = data_.bytes.subspan(begun_ * element_bytes_, count * element_bytes_);
    if (wire == data_.dtype) {
      out.Send(Rank(group_.rank + 1), InPhase(kReduce), wire, begun_, mine);
    } else {
      std::vector<std::byte> message(kFrameHeaderBytes + count * ElementBytes(wire));
      Widen(data_.dtype, mine.data(), count, message.data() + kFrameHeaderBytes);
      out.SendInPlace(Rank(group_.rank + 1), InPhase(kReduce), wire, begun_, std::move(message));
    }
    begun_ += count;
    ++chunks_begun_;
  }
}

Status RingReduce::Receive(Incoming in, Outbox& out) {
  const uint8_t phase = UnpackPart(in.header.part).phase;
  if (in.from != Rank(group_.rank - 1)) return Unexpected(in, part_, "is not the left neighbour in the ring, but sent a part of it");
  if (phase > (gather_ ? kGather : kReduce)) return Unexpected(in, part_, Cat("is in phase ", int{phase}, ", which there is not"));
  RETURN_IF_ERROR(CheckSameCall(in, InPhase(phase), phase == kReduce ? AccumulatorOf(data_.dtype) : data_.dtype));
  const int64_t offset = in.header.offset;
  const int slice = SliceAt(offset);
  // The slices that begin their way here never come back.
  if (slice == group_.size || slice == (phase == kReduce ? Rank(group_.rank - 1) : group_.rank)) {
    return Unexpected(in, part_, Cat("sent elements from ", offset, " on, which it does not have to send"));
  }
  int64_t& next = next_[phase][static_cast<size_t>(slice)];
  if (offset != next) {
    return Unexpected(in, part_,
                      Cat("sent elements from ", offset, " on ", offset < next ? "again" : "too early", ", expected those from ", next));
  }
  if (const int64_t expected = Chunk(offset, Slice(slice).end); in.count() != expected) {
    return Unexpected(in, part_, Cat("sent ", in.count(), " elements from ", offset, " on, expected ", expected));
  }
  const int64_t count = in.count();
  next += count;
  missing_ -= count;
  if (phase == kReduce) {
    Reduce(std::move(in), slice, out);
  } else {
    Gather(std::move(in), slice, out);
  }
  return OkStatus();
}

void RingReduce::Reduce(Incoming in, int slice, Outbox& out) {
  const int64_t offset = in.header.offset, count = in.count();
  const std::byte* mine = data_.bytes.data() + offset * element_bytes_;
  std::byte* partial = in.payload().data();
  if (slice != group_.rank) {
    AddTo(data_.dtype, partial, mine, count);
    return out.SendInPlace(Rank(group_.rank + 1), InPhase(kReduce), in.header.dtype, offset, std::move(in.message));
  }
  std::byte* result = slice_ + (offset - Slice(slice).begin) * element_bytes_;
  FinishSum(data_.dtype, partial, mine, count, result);
  if (gather_) {
    out.Send(Rank(group_.rank + 1), InPhase(kGather), data_.dtype, offset, {result, static_cast<size_t>(count * element_bytes_)});
  } else {
    EndChunk(out);
  }
}

void RingReduce::Gather(Incoming in, int slice, Outbox& out) {
  std::memcpy(all_ + in.header.offset * element_bytes_, in.payload().data(), in.payload().size());
  if (slice == Rank(group_.rank + 1)) return EndChunk(out);
  out.Forward(Rank(group_.rank + 1), std::move(in.message));
}

void RingReduce::EndChunk(Outbox& out) {
  ++chunks_ended_;
  BeginChunks(out);
}

bool RingReduce::done() const { return missing_ == 0 && begun_ == Slice(Rank(group_.rank - 1)).end; }

bool RingReduce::Needs(int from) const { return missing_ > 0 && from == Rank(group_.rank - 1); }

}  // namespace dtrain
