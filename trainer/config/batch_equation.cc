#include "trainer/config/batch_equation.h"

#include <bit>

namespace dtrain {
namespace {

std::string Ranks(int64_t ranks) { return Cat(ranks, ranks == 1 ? " rank" : " ranks"); }

// The multiples of `unit` next to `number`: "60 or 66"; one only where `number` lies below the first.
std::string NearestMultiples(int64_t number, int64_t unit) {
  const int64_t below = number / unit * unit;
  return below == 0 ? Cat(unit) : Cat(below, " or ", below + unit);
}

Status Refused(std::string_view message) { return WithExitCode(InvalidArgument(message), ExitCode::kConfiguration); }

StatusOr<BatchPlan> PlanReproducible(const BatchRequest& request, int64_t ranks) {
  if (ranks > request.micro_batches) {
    return Refused(Cat("data.batch.micro_batches: found ", request.micro_batches, " for ", Ranks(ranks), ", expected at least ",
                       std::bit_ceil(static_cast<uint64_t>(ranks)),
                       ": a rank must own a leaf; change it in every run that is to be compared, or use fewer ranks"));
  }
  return BatchPlan{.ranks = ranks, .global = request.global.value_or(kGlobalBatchDefault), .leaves = request.micro_batches};
}

}  // namespace

std::string BatchPlan::ToString() const {
  if (per_rank > 0) return Cat(global, " global = ", Ranks(ranks), " x ", per_rank, " per rank x ", accumulation, " accumulation");
  const int64_t smaller = global / leaves;
  return Cat(global, " global = ", leaves, leaves == 1 ? " leaf of " : " leaves of ", smaller,
             global % leaves == 0 ? "" : Cat(" or ", smaller + 1), " over ", Ranks(ranks));
}

Status CheckBatchRequest(const BatchRequest& request) {
  if (!std::has_single_bit(static_cast<uint64_t>(request.micro_batches))) {
    const auto below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(request.micro_batches)));
    return Refused(
        Cat("data.batch.micro_batches: found ", request.micro_batches, ", expected a power of two; nearest: ", below, " or ", 2 * below));
  }
  if (!request.reproducible) {
    if (request.accumulation && !request.global && !request.per_rank) {
      return Refused(
          Cat("data.batch.accumulation: found ", *request.accumulation,
              " alone, expected data.batch.global or data.batch.per_rank beside it: it does not say how many samples a step has"));
    }
    return OkStatus();
  }
  if (request.per_rank || request.accumulation) {
    return Refused(Cat("data.batch.", request.per_rank ? "per_rank" : "accumulation", ": found ",
                       request.per_rank ? *request.per_rank : *request.accumulation,
                       " with run.reproducible: true, expected null: the answer would depend on the number of ranks; give "
                       "data.batch.global, which is cut into data.batch.micro_batches leaves"));
  }
  const int64_t global = request.global.value_or(kGlobalBatchDefault);
  if (global < request.micro_batches) {
    return Refused(Cat("data.batch.micro_batches: found ", request.micro_batches, " for a global batch of ", global, ", expected ",
                       std::bit_floor(static_cast<uint64_t>(global)), " or less: a leaf needs a sample"));
  }
  return OkStatus();
}

StatusOr<BatchPlan> PlanBatch(const BatchRequest& request, int64_t ranks) {
  RETURN_IF_ERROR(CheckBatchRequest(request));
  if (request.reproducible) return PlanReproducible(request, ranks);

  BatchPlan plan = {.ranks = ranks};
  plan.accumulation = request.accumulation.value_or(1);
  if (!request.global && request.per_rank) {
    plan.per_rank = *request.per_rank;
    // In steps, so that nothing overflows: each factor is at most 2^31.
    if (plan.per_rank > kGlobalBatchMax / ranks || plan.per_rank * ranks > kGlobalBatchMax / plan.accumulation) {
      return Refused(Cat("data.batch.per_rank: found ", plan.per_rank, " x ", Ranks(ranks), " x ", plan.accumulation,
                         " accumulation, expected a global batch of at most ", kGlobalBatchMax));
    }
    plan.global = ranks * plan.per_rank * plan.accumulation;
  } else {
    plan.global = request.global.value_or(kGlobalBatchDefault);
    if (request.per_rank && request.accumulation) {
      plan.per_rank = *request.per_rank;
      const auto product = static_cast<__int128>(ranks) * plan.per_rank * plan.accumulation;
      if (product != plan.global) {
        return Refused(Cat("data.batch.global: found ", plan.global, ", but ", Ranks(ranks), " x ", plan.per_rank, " per rank x ",
                           plan.accumulation, " accumulation",
                           product <= kGlobalBatchMax ? Cat(" is ", static_cast<int64_t>(product)) : std::string(" is far more"),
                           "; set one of the three to null"));
      }
    } else {
      // What `global` must be a multiple of: the ranks and whichever of the other two is given.
      const int64_t factor = request.per_rank.value_or(plan.accumulation);
      const auto unit = static_cast<__int128>(ranks) * factor;
      const std::string times = request.per_rank ? " per rank" : " accumulation";
      if (plan.global % unit != 0) {
        return Refused(Cat("data.batch.global: found ", plan.global, ", which is no multiple of ", Ranks(ranks), " x ", factor, times,
                           unit <= kGlobalBatchMax ? Cat("; nearest: global ", NearestMultiples(plan.global, static_cast<int64_t>(unit)))
                                                   : std::string()));
      }
      const int64_t other = plan.global / static_cast<int64_t>(unit);
      plan.per_rank = request.per_rank ? *request.per_rank : other;
      if (request.per_rank) plan.accumulation = other;
    }
  }
  plan.leaves = ranks * plan.accumulation;
  return plan;
}

BatchRequest BatchRequestOf(const Value& configuration) {
  const auto optional = [&](std::string_view path) -> std::optional<int64_t> {
    if (configuration.At(path).is_null()) return std::nullopt;
    return configuration.Int(path, 0);
  };
  return {.reproducible = configuration.Bool("run.reproducible", false),
          .global = optional("data.batch.global"),
          .per_rank = optional("data.batch.per_rank"),
          .accumulation = optional("data.batch.accumulation"),
          .micro_batches = configuration.Int("data.batch.micro_batches", 8)};
}

}  // namespace dtrain
