#include "allreduce/doubling.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"

namespace dtrain {

Doubling::Doubling(const Group& group, Elements data, const ChunkOptions& options)
    : Doubling(
          group,
          {.call = Call::kAllReduce, .detail = static_cast<uint8_t>(data.dtype), .scheme = 2, .total = static_cast<uint32_t>(data.count())},
          data, options) {}

Doubling::Doubling(const Group& group) : Doubling(group, {.call = Call::kBarrier}, {DType::kF32, {}}, {}) {}

Doubling::Doubling(const Group& group, const Part& part, Elements data, const ChunkOptions& options)
    : group_(group),
      part_(part),
      data_(data),
      wire_(AccumulatorOf(data.dtype)),
      chunk_elements_(std::max<int64_t>(options.chunk_bytes / ElementBytes(wire_), 1)) {
  DTRAIN_CHECK(group.size >= 2 && group.size <= kLinkRanksMax);
  const int places = static_cast<int>(std::bit_floor(static_cast<unsigned>(group.size)));
  pairs_ = group.size - places;
  rounds_ = std::countr_zero(static_cast<unsigned>(places));
  const bool paired = group.rank < 2 * pairs_;
  gives_away_ = paired && group.rank % 2 == 0;
  place_ = paired ? group.rank / 2 : group.rank - pairs_;
  phases_.resize(static_cast<size_t>(rounds_) + 2);
  if (gives_away_) {
    phases_[last_phase()].from = group.rank + 1;
  } else {
    if (paired) phases_[0].from = group.rank - 1;
    for (int round = 0; round < rounds_; ++round) phases_[static_cast<size_t>(round) + 1].from = RankOf(place_ ^ 1 << round);
  }
}

void Doubling::Begin(Outbox& out) {
  sum_.resize(static_cast<size_t>(data_.count() * ElementBytes(wire_)));
  Widen(data_.dtype, data_.bytes.data(), data_.count(), sum_.data());
  if (gives_away_) {
    Give(group_.rank + 1, 0, wire_, sum_, out);
    next_ = last_phase();
  } else if (phases_[0].from < 0) {
    next_ = 1;
    Give(phases_[1].from, 1, wire_, sum_, out);
  }
}

void Doubling::Give(int to, size_t phase, DType dtype, std::span<const std::byte> bytes, Outbox& out) const {
  Part part = part_;
  part.phase = static_cast<uint8_t>(phase);
  const auto element_bytes = static_cast<size_t>(ElementBytes(dtype));
  size_t done = 0;
  do {  // nothing is a message too
    const auto chunk = bytes.subspan(done, std::min(static_cast<size_t>(chunk_elements_) * element_bytes, bytes.size() - done));
    out.Send(to, part, dtype, static_cast<int64_t>(done / element_bytes), chunk);
    done += chunk.size();
  } while (done < bytes.size());
}

Status Doubling::Receive(Incoming in, Outbox& out) {
  const size_t number = UnpackPart(in.header.part).phase;
  if (number >= phases_.size()) return Unexpected(in, part_, Cat("is in phase ", number, ", which there is not"));
  const DType dtype = number == last_phase() ? data_.dtype : wire_;
  Part expected = part_;
  expected.phase = static_cast<uint8_t>(number);
  RETURN_IF_ERROR(CheckSameCall(in, expected, dtype));
  Phase& phase = phases_[number];
  if (phase.from != in.from) return Unexpected(in, part_, Cat("sent something for phase ", number, ", which comes from another"));
  const auto element_bytes = ElementBytes(dtype), total = data_.count();
  const int64_t have = static_cast<int64_t>(phase.arrived.size()) / element_bytes;
  if (phase.whole || in.header.offset != have) {
    return Unexpected(in, part_, Cat("sent elements from ", in.header.offset, " on, of which ", have, " are there"));
  }
  if (const int64_t count = std::min(chunk_elements_, total - have); in.count() != count) {
    return Unexpected(in, part_, Cat("sent ", in.count(), " elements from ", have, " on, expected ", count));
  }
  const auto payload = in.payload();
  phase.arrived.insert(phase.arrived.end(), payload.begin(), payload.end());
  phase.whole = have + in.count() == total;
  if (phase.whole) GoOn(out);
  return OkStatus();
}

void Doubling::GoOn(Outbox& out) {
  while (!done_ && phases_[next_].whole) {
    Phase& phase = phases_[next_];
    if (next_ == last_phase()) {  // the result, for the one that gave its numbers away
      std::ranges::copy(phase.arrived, data_.bytes.begin());
      done_ = true;
      return;
    }
    if (phase.from < group_.rank) {
      AddPartials(data_.dtype, phase.arrived.data(), sum_.data(), data_.count());
    } else {
      AddPartials(data_.dtype, sum_.data(), phase.arrived.data(), data_.count());
      std::swap(sum_, phase.arrived);
    }
    phase.arrived = {};
    ++next_;
    if (next_ < last_phase()) {
      Give(phases_[next_].from, next_, wire_, sum_, out);
      continue;
    }
    Narrow(data_.dtype, sum_.data(), data_.count(), data_.bytes.data());
    if (phases_[0].from >= 0) Give(phases_[0].from, last_phase(), data_.dtype, data_.bytes, out);
    done_ = true;
  }
}

bool Doubling::Needs(int from) const {
  return !done_ && std::ranges::any_of(phases_, [&](const Phase& phase) { return phase.from == from && !phase.whole; });
}

}  // namespace dtrain
