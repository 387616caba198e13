#include "paramserver/snapshots.h"

#include <algorithm>

#include "base/check.h"
#include "paramserver/limits.h"

namespace dtrain::ps {

Snapshots::Snapshots(std::vector<int64_t> chunk_elements, Duration lease) : chunks_(chunk_elements.size()), lease_(lease) {
  for (size_t i = 0; i < chunks_.size(); ++i) {
    for (std::vector<float>& buffer : chunks_[i].buffers) buffer.resize(static_cast<size_t>(chunk_elements[i]));
  }
}

std::optional<int64_t> Snapshots::VersionWithin(int chunk, int64_t min, int64_t max) const {
  const ChunkBuffers& it = chunks_[chunk];
  for (const int64_t version : {it.version, it.other_version}) {
    if (version >= 0 && min <= version && version <= max) return version;
  }
  return std::nullopt;
}

StatusOr<Pin> Snapshots::Hold(int chunk, int64_t version, TimePoint now) {
  if (pins_.size() >= kPinsMax) return ResourceExhausted("pin a snapshot: ", pins_.size(), " are pinned already");
  ChunkBuffers& it = chunks_[chunk];
  DTRAIN_CHECK(version == it.version || version == it.other_version);
  const int buffer = version == it.version ? it.current : 1 - it.current;
  const Pin pin = next_pin_++;
  it.pins[buffer][pin] = now + lease_;
  pins_[pin] = {chunk, buffer};
  return pin;
}

std::span<const float> Snapshots::Read(Pin pin) const {
  const auto at = pins_.find(pin);
  if (at == pins_.end()) return {};
  return chunks_[at->second.chunk].buffers[at->second.buffer];
}

void Snapshots::Release(Pin pin) {
  const auto at = pins_.find(pin);
  if (at == pins_.end()) return;
  chunks_[at->second.chunk].pins[at->second.buffer].erase(pin);
  pins_.erase(at);
}

bool Snapshots::MayWrite(int chunk, TimePoint now) {
  ChunkBuffers& it = chunks_[chunk];
  auto& pins = it.pins[1 - it.current];
  std::erase_if(pins, [&](const auto& pin) {
    if (pin.second > now) return false;
    pins_.erase(pin.first);
    return true;
  });
  return pins.empty();
}

std::span<float> Snapshots::Other(int chunk) {
  ChunkBuffers& it = chunks_[chunk];
  DTRAIN_CHECK(it.pins[1 - it.current].empty());
  it.other_version = -1;  // no longer what it was
  return it.buffers[1 - it.current];
}

void Snapshots::Swap(int chunk, int64_t version) {
  ChunkBuffers& it = chunks_[chunk];
  DTRAIN_CHECK(version > it.version);
  it.other_version = it.version;
  it.version = version;
  it.current = 1 - it.current;
}

void Snapshots::Place(int chunk, std::span<const float> parameters, int64_t version) {
  ChunkBuffers& it = chunks_[chunk];
  for (std::vector<float>& buffer : it.buffers) {
    DTRAIN_CHECK(buffer.size() == parameters.size());
    std::ranges::copy(parameters, buffer.begin());
  }
  it.version = version;
  it.other_version = -1;
}

}  // namespace dtrain::ps
