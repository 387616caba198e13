#include "paramserver/work_log.h"

#include <algorithm>

#include "base/check.h"
#include "paramserver/limits.h"

namespace dtrain::ps {

bool WorkLog::Applied(const LeaseName& lease, int chunk) const {
  if (TooOld(lease.epoch)) return true;
  const auto epoch = epochs_.find(lease.epoch);
  if (epoch == epochs_.end()) return false;
  if (lease.number < epoch->second.closed_below || epoch->second.closed.contains(lease.number)) return true;
  const auto open = epoch->second.open.find(lease.number);
  return open != epoch->second.open.end() && open->second[static_cast<size_t>(chunk)];
}

Status WorkLog::MayApply(const LeaseName& lease) const {
  if (const int64_t closed = closed_below(lease.epoch); lease.number - closed >= kLeasesOpenMax) {
    return ResourceExhausted("apply lease ", lease.number, " of epoch ", lease.epoch, ": all below ", closed,
                             " are closed; expected a lease less than ", kLeasesOpenMax, " ahead of that");
  }
  return OkStatus();
}

void WorkLog::MarkApplied(const LeaseName& lease, int chunk) {
  DTRAIN_CHECK(!Applied(lease, chunk) && MayApply(lease).ok());
  Epoch& epoch = epochs_[lease.epoch];
  while (TooOld(epochs_.begin()->first)) epochs_.erase(epochs_.begin());
  std::vector<bool>& bits = epoch.open[lease.number];
  bits.resize(static_cast<size_t>(chunks_));
  bits[static_cast<size_t>(chunk)] = true;
  if (!std::ranges::all_of(bits, std::identity{})) return;
  epoch.open.erase(lease.number);
  epoch.closed.insert(lease.number);
  while (epoch.closed.erase(epoch.closed_below) > 0) ++epoch.closed_below;
}

int64_t WorkLog::closed_below(int64_t epoch) const {
  const auto found = epochs_.find(epoch);
  return found == epochs_.end() ? 0 : found->second.closed_below;
}

std::optional<WorkLog> WorkLog::Recut(int chunks) const {
  if (std::ranges::any_of(epochs_, [](const auto& epoch) { return !epoch.second.open.empty(); })) return std::nullopt;
  WorkLog log = *this;
  log.chunks_ = chunks;
  return log;
}

void WorkLog::Encode(Encoder& to) const {
  to.U32(static_cast<uint32_t>(epochs_.size()));
  for (const auto& [number, epoch] : epochs_) {
    to.I64(number);
    to.I64(epoch.closed_below);
    to.U32(static_cast<uint32_t>(epoch.closed.size()));
    for (const int64_t lease : epoch.closed) to.I64(lease);
    to.U32(static_cast<uint32_t>(epoch.open.size()));
    for (const auto& [lease, bits] : epoch.open) {
      to.I64(lease);
      for (const bool bit : bits) to.U8(bit ? 1 : 0);
    }
  }
}

bool WorkLog::Decode(Decoder& from, int chunks, WorkLog* log) {
  *log = WorkLog(chunks);
  const uint32_t epochs = from.U32();
  if (epochs > 2) return false;
  for (uint32_t e = 0; e < epochs; ++e) {
    const int64_t number = from.I64();
    if (log->epochs_.contains(number) || number < 0) return false;
    Epoch& epoch = log->epochs_[number];
    epoch.closed_below = from.I64();
    const auto in_reach = [&](int64_t lease) { return lease >= epoch.closed_below && lease - epoch.closed_below < kLeasesOpenMax; };
    const uint32_t closed = from.U32();
    if (!from.ok() || epoch.closed_below < 0 || closed > kLeasesOpenMax) return false;
    for (uint32_t i = 0; i < closed; ++i) {
      const int64_t lease = from.I64();
      if (!from.ok() || !in_reach(lease)) return false;
      epoch.closed.insert(lease);
    }
    const uint32_t open = from.U32();
    if (!from.ok() || open > kLeasesOpenMax) return false;
    for (uint32_t i = 0; i < open; ++i) {
      const int64_t lease = from.I64();
      if (!from.ok() || !in_reach(lease)) return false;
      std::vector<bool>& bits = epoch.open[lease];
      bits.clear();
      for (int chunk = 0; chunk < chunks; ++chunk) bits.push_back(from.U8() != 0);
    }
  }
  return from.ok();
}

}  // namespace dtrain::ps
