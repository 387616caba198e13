#include "paramserver/grants.h"

namespace dtrain::ps {

Grants::Grants(int64_t slots, const std::vector<GrantDecision>& decided) : slots_(slots) {
  for (const GrantDecision& grant : decided) decided_[grant.step][grant.slot] = grant.worker;
}

void Grants::Open(Step step) {
  step_ = step;
  owners_.clear();
  turned_away_.clear();
  decided_.erase(decided_.begin(), decided_.lower_bound(step));
  if (const auto decided = decided_.find(step); decided != decided_.end()) owners_ = decided->second;
}

std::optional<int32_t> Grants::FreeSlot(const std::set<int32_t>& members) const {
  for (int32_t slot = 0; slot < slots_; ++slot) {
    const auto owner = owners_.find(slot);
    if (owner == owners_.end() || !members.contains(owner->second)) return slot;
  }
  return std::nullopt;
}

Grants::Answer Grants::Claim(Step step, Step open, int32_t worker, const std::set<int32_t>& members) {
  if (step == open && step > step_) Open(step);
  if (step != step_) return {};
  for (const auto& [slot, owner] : owners_) {
    if (owner == worker) return {slot, false};
  }
  if (const auto slot = FreeSlot(members)) {
    owners_[*slot] = worker;
    turned_away_.erase(worker);
    return {*slot, true};
  }
  if (turned_away_.insert(worker).second) ++not_needed_;
  return {};
}

std::vector<GrantDecision> Grants::Reassign(const std::set<int32_t>& members) {
  std::vector<GrantDecision> grants;
  std::erase_if(turned_away_, [&](int32_t worker) { return !members.contains(worker); });
  while (!turned_away_.empty()) {
    const auto slot = FreeSlot(members);
    if (!slot) break;
    const int32_t worker = *turned_away_.begin();
    turned_away_.erase(turned_away_.begin());
    owners_[*slot] = worker;
    grants.push_back({step_, *slot, worker});
  }
  return grants;
}

}  // namespace dtrain::ps
