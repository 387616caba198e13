// Goal: whatever is lost, repeated, delayed, cut, paused and killed, work counts once, the bits are those of the undisturbed
// run, nobody runs ahead of the bound, and the job ends. Method: tests/paramserver/simulation.h over many seeds.
//   DTRAIN_SIM_SEEDS=n  how many seeds (10,000)        DTRAIN_SIM_SEED=n  this one alone, with its script
#include "tests/paramserver/simulation.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

namespace dtrain::ps {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : ParseInt(text).value_or(otherwise);
}

#ifdef DTRAIN_SANITIZED
constexpr int64_t kSeeds = 1'000;  // ten times as slow
#else
constexpr int64_t kSeeds = 10'000;
#endif
constexpr int kParts = 4;  // so that two cores can share the work

class ParameterServerSimulation : public testing::TestWithParam<int> {};

TEST_P(ParameterServerSimulation, EverySeedKeepsEveryPromise) {
  std::map<std::string, int64_t> counts;
  const int64_t one = FromEnvironment("DTRAIN_SIM_SEED", -1);
  const int64_t seeds = FromEnvironment("DTRAIN_SIM_SEEDS", kSeeds);
  for (int64_t seed = GetParam(); seed < seeds; seed += kParts) {
    if (one >= 0 && seed != one % kParts) return;
    Simulation simulation(static_cast<uint64_t>(one >= 0 ? one : seed));
    if (one >= 0) std::printf("%s\n", simulation.Script().c_str());
    simulation.Run();
    for (const auto& [name, count] : simulation.counts()) counts[name] += count;
    ASSERT_TRUE(simulation.ok()) << "seed " << (one >= 0 ? one : seed) << ": " << simulation.fault() << "\n  " << simulation.Script()
                                 << "\n  again with DTRAIN_SIM_SEED=" << (one >= 0 ? one : seed);
    if (one >= 0) break;
  }
  for (const auto& [name, count] : counts) std::printf("%12lld %s\n", static_cast<long long>(count), name.c_str());
  if (one >= 0 || seeds < 2'000) return;
  // What was never tried proves nothing.
  for (const char* name :
       {"checkpoints", "coordinator crashes", "cuts", "pauses", "reads too late", "rollbacks", "server crashes", "slow readers",
        "stale work", "steps clipped", "steps skipped", "turned away", "units taken over", "worker crashes", "workers fenced"}) {
    EXPECT_GT(counts[name], 20) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ParameterServerSimulation, testing::Range(0, kParts));

}  // namespace
}  // namespace dtrain::ps
