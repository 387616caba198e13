// Loops compiled once for each instruction set and chosen at run time, so that one build runs on every x86-64 machine
// and uses the wide registers of those that have them. The bits are the same for all of them, and for an element
// wherever it lies in its buffer: each operation is an IEEE one on one element, and -ffp-contract=off fuses none.
// Inside optim/ only. Files that use it are compiled with -O3.
#pragma once
#include <cstdint>

namespace dtrain {

// No 512-bit variant: the loops are bound by memory, and where it was measured AVX2 was as fast or faster.
enum class InstructionSet { kBaseline, kAvx2 };

// The widest set of this machine.
InstructionSet MachineInstructionSet();

// The set that loops run with: the machine's, unless a test has limited it.
InstructionSet ChosenInstructionSet();
void LimitInstructionSetForTest(InstructionSet widest);

// `body` is taken by value: were it a reference, a store could change its captures and nothing would stay in registers.
// `flatten` inlines it, so that it is compiled for the set of the function that it is inlined into.
namespace loop_internal {
template <typename Body>
[[gnu::flatten, gnu::noinline]] void RunBaseline(Body body) {
  body();
}
#ifdef __x86_64__
template <typename Body>
[[gnu::flatten, gnu::noinline, gnu::target("avx2")]] void RunAvx2(Body body) {
  body();
}
#endif
}  // namespace loop_internal

// Runs body() once.
template <typename Body>
void Vectorized(Body body) {
#ifdef __x86_64__
  if (ChosenInstructionSet() == InstructionSet::kAvx2) return loop_internal::RunAvx2(body);
#endif
  loop_internal::RunBaseline(body);
}

// Runs body(i) for i in [0, count). No element may depend on another: what body(i) writes is read by body(i) alone.
template <typename Body>
void ForEachElement(int64_t count, Body body) {
  Vectorized([=] {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; ++i) body(i);
  });
}

}  // namespace dtrain
