// Backup workers: of N + b gradients of a step the first N count, and it is the same N on every shard. So one shard, number
// 0, grants the places before a gradient is pushed anywhere; who comes later is told that it is not needed.
// After Chen, Pan, Monga, Bengio, Jozefowicz, "Revisiting Distributed Synchronous SGD", 2016.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "paramserver/decision.h"

namespace dtrain::ps {

class Grants {
 public:
  // `slots`: N. `decided`: of the journal; a step that was decided is decided the same way again, unless the worker is gone.
  Grants(int64_t slots, const std::vector<GrantDecision>& decided);

  struct Answer {
    int32_t slot = -1;   // -1: not needed
    bool fresh = false;  // decided now: to be written down before it is told
  };
  // `open` is the step that is open on this shard; older ones are dropped by version, except that the newest may still be
  // open elsewhere and have a free slot. `members` is who is in the view. The same claim again gets the same answer,
  // unless a slot has become free since.
  Answer Claim(Step step, Step open, int32_t worker, const std::set<int32_t>& members);

  // The slots of workers that are gone go to those that were not needed, in order of number. Only in the newest step: it may
  // be open on another shard even if it is closed on this one.
  std::vector<GrantDecision> Reassign(const std::set<int32_t>& members);

  int64_t not_needed() const { return not_needed_; }  // claims turned away so far, each worker and step once

 private:
  std::optional<int32_t> FreeSlot(const std::set<int32_t>& members) const;
  void Open(Step step);

  const int64_t slots_;
  std::map<Step, std::map<int32_t, int32_t>> decided_;  // slot -> worker, of steps to come again
  Step step_ = -1;                                      // the newest
  std::map<int32_t, int32_t> owners_;                   // slot -> worker
  std::set<int32_t> turned_away_;
  int64_t not_needed_ = 0;
};

}  // namespace dtrain::ps
