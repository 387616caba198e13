#include "optim/vector_loop.h"

#include <algorithm>
#include <atomic>

namespace dtrain {
namespace {

std::atomic<InstructionSet>& Chosen() {
  static std::atomic<InstructionSet> chosen = MachineInstructionSet();
  return chosen;
}

}  // namespace

InstructionSet MachineInstructionSet() {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) return InstructionSet::kAvx2;
#endif
  return InstructionSet::kBaseline;
}

InstructionSet ChosenInstructionSet() { return Chosen().load(std::memory_order_relaxed); }

void LimitInstructionSetForTest(InstructionSet widest) { Chosen() = std::min(widest, MachineInstructionSet()); }

}  // namespace dtrain
